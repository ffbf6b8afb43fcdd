// Package matrix is the vocabulary of the server: the identifiers of the
// protocol as distinct types, its error codes, and the error that every part
// of the server answers with.
//
// A value of an identifier type that came from a Parse function obeys the
// grammar of the specification and its length limit, so it needs no second
// check. The types are plain strings with no methods for encoding: whoever
// decodes a request parses its identifiers explicitly.
//
// https://spec.matrix.org/v1.19/appendices/#identifier-grammar
package matrix
