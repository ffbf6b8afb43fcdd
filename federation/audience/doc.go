// Package audience says which servers are told of what happens here: who an event of a room is owed to (Rooms), and who
// hears that somebody types or is there (Herald). What it names, federation/outbox delivers.
//
// https://spec.matrix.org/v1.19/server-server-api/#transactions
package audience
