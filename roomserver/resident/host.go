// Package resident is the resident side of joins, knocks, leaves and invites: it answers the servers whose users want to
// come into rooms that this server is in, or to leave them, and those that invite users of this server.
//
// The events have passed event.Parse, and carry a valid signature of their sender's server. Nothing is signed here but a
// join that a user of this server vouches for, and an invite of a user of this server.
// https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
package resident

import (
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/roomserver/receive"
	"github.com/myelin-chat/myelin/storage"
)

// Settings are the parts that a Host is made of.
type Settings struct {
	Owners   *owner.Owners
	Receiver *receive.Receiver
	People   *member.People
	DB       *storage.DB
	Key      signing.Key // of this server
}

// A Host answers users of other servers who want to come into rooms, to leave them, or to invite users of this server.
type Host struct {
	owners   *owner.Owners
	receiver *receive.Receiver
	people   *member.People
	db       *storage.DB
	name     matrix.ServerName
	key      signing.Key

	// SmallRoom is how many members a room may have to be given whole also to who would do without them. It is not changed
	// while anybody is answered.
	SmallRoom int64
}

// New makes a Host.
func New(s Settings) *Host {
	return &Host{owners: s.Owners, receiver: s.Receiver, people: s.People, db: s.DB, name: s.Owners.ServerName(), key: s.Key, SmallRoom: smallRoom}
}
