// Package federation is the server among others. It joins what they call; the parts below it do one thing each:
//
//   - peer: who makes a request; access: what that server has to do with a room
//   - query, history, spaces, membership: answers to what is asked
//   - intake takes transactions in, inbox keeps them until the rooms have them
//   - network asks others, for clients and for rooms; remote is the client that it asks through
//   - audience says who is told what, outbox sends it
//   - keys knows the signing keys of all servers
//
// They decode, authenticate and answer. What a join, an invite or an event means for a room is decided in roomserver;
// what a server may see of a room, too. Nothing that came from another server goes further than these packages without
// having passed event.Parse and the check of its signatures.
//
// https://spec.matrix.org/v1.19/server-server-api/
package federation
