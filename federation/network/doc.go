// Package network is this server as one that asks: it takes users of ours into rooms of other servers and out of them,
// invites users of others, and looks things up elsewhere (Network, for clients); and it fetches for rooms what they lack
// (Rooms, for roomserver).
//
// https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
package network
