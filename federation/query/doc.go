// Package query answers what other servers ask about this one: its keys and those that it knows of others, its users,
// their devices and profiles, its directory of rooms and aliases, its software.
//
// https://spec.matrix.org/v1.19/server-server-api/#querying-for-information
package query
