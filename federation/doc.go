// Package federation is the server among others: it answers what other homeservers ask, takes in what they send, and
// joins the parts below it, which do one thing each: federation/keys knows the signing keys of all servers,
// federation/remote asks other servers, federation/outbox sends to them.
//
// It decodes, authenticates and answers. What a join, an invite or an event means for a room is decided in roomserver;
// what a server may see of a room, too. Nothing that came from another server goes further than this package without
// having passed event.Parse and the check of its signatures.
//
// https://spec.matrix.org/v1.19/server-server-api/
package federation
