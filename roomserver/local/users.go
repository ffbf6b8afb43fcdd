// Package local does what the users of this server want of rooms: to create them, to send, to come and go, to invite, to
// redact, to give rooms names and list them. It refuses what the rules of a room might let pass, but no user should do; who
// a user is, and how often it may ask, has been seen to by those who call.
//
// Errors that a caller may see are matrix.Errors.
package local

import (
	"io"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/roomserver/receive"
	"github.com/myelin-chat/myelin/storage"
)

// Settings are the parts that Users are made of.
type Settings struct {
	Owners         *owner.Owners
	Receiver       *receive.Receiver
	People         *member.People
	DB             *storage.DB
	DefaultVersion matrix.RoomVersion // of new rooms
	Now            func() time.Time
	Rand           io.Reader
}

// Users does what the users of this server want of rooms.
type Users struct {
	owners   *owner.Owners
	receiver *receive.Receiver
	people   *member.People
	db       *storage.DB
	name     matrix.ServerName
	version  matrix.RoomVersion
	now      func() time.Time
	rand     io.Reader
	txns     *txns
}

// New makes Users.
func New(s Settings) *Users {
	return &Users{
		owners: s.Owners, receiver: s.Receiver, people: s.People, db: s.DB, name: s.Owners.ServerName(),
		version: s.DefaultVersion, now: s.Now, rand: s.Rand, txns: newTxns(s.DB.Secret()),
	}
}
