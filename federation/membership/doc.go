// Package membership answers servers whose users enter rooms of this one and leave them, and that invite users of this
// one: make and send join, leave and knock, invites, and invites to addresses.
//
// It holds what comes against what the endpoint is for; what that means for a room is decided in roomserver. Whatever
// gets this server's signature here is an event of the one kind that the endpoint is for.
//
// https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
package membership
