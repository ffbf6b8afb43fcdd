// Package peer is the way in for other servers: who makes a request, how often it may, and how large answers are written.
// Every endpoint of federation goes through Signed, or is open to everybody (httpapi.Open).
//
// https://spec.matrix.org/v1.19/server-server-api/#authentication
package peer
