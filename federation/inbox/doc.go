// Package inbox keeps what other servers have sent until the rooms have it: a transaction is one durable row, which is
// there before its server is answered, and gone when all its rooms are done with it. Rooms never wait for each other; what
// stands on something that is missing is tried again; an event over which the server panicked twice is kept out.
//
// https://spec.matrix.org/v1.19/server-server-api/#transactions
package inbox
