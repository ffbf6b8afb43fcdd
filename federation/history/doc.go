// Package history answers what other servers ask about the events of rooms that they are in: one event, what authorises
// it, the state before it, and what came before it.
//
// https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
package history
