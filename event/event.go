// Package event says what a Matrix event is: how one is parsed from outside
// bytes, loaded from our own database, built, hashed, signed and redacted, for
// every room version. The rules that allow or reject an event are in
// event/auth.
//
// Everything here is a pure function of its arguments: no context, clock,
// database, network or log. An Event is never changed after it was made, so it
// may be shared freely between goroutines.
package event

import (
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// Event is one event of a room. Parse, Load and Build are the only ways to get
// one, and auth.Essence to get less of one; nothing in it may be changed
// afterwards.
type Event struct {
	ID             matrix.EventID
	Version        *Version
	RoomID         matrix.RoomID // of a version 12 create event: derived from its ID
	Type           string
	Sender         matrix.UserID
	StateKey       *string // nil: not a state event
	Content        []byte  // canonical JSON object, a part of JSON
	PrevEvents     []matrix.EventID
	AuthEvents     []matrix.EventID
	Depth          int64
	OriginServerTS int64
	Redacts        matrix.EventID // "" if none, wherever the version keeps it

	// JSON is the canonical form, with hashes and signatures, without unsigned.
	JSON []byte
	// Redacted says that Parse found a wrong content hash: JSON, and all else
	// here, is of the redacted form.
	Redacted bool
	// TooLong says that the type or the state key is longer than allowed in
	// bytes, but not in characters: see Version.LooseTexts. Only Parse tells it.
	TooLong bool

	membership Membership // of m.room.member events
}

// Key names a place in a room's state.
type Key struct {
	Type     string
	StateKey string
}

// Membership is what an m.room.member event says of its target.
type Membership string

// The memberships. A user without a member event has the empty Membership,
// which the rules treat like Leave except where they say otherwise.
const (
	Join   Membership = "join"
	Invite Membership = "invite"
	Leave  Membership = "leave"
	Ban    Membership = "ban"
	Knock  Membership = "knock"
)

// The types of events that the server itself gives a meaning to.
const (
	TypeCreate            = "m.room.create"
	TypeMember            = "m.room.member"
	TypePowerLevels       = "m.room.power_levels"
	TypeJoinRules         = "m.room.join_rules"
	TypeThirdPartyInvite  = "m.room.third_party_invite"
	TypeHistoryVisibility = "m.room.history_visibility"
	TypeRedaction         = "m.room.redaction"
	TypeAliases           = "m.room.aliases"
	TypeMessage           = "m.room.message"
	TypeEncrypted         = "m.room.encrypted"
)

// IsState says whether the event is a state event.
func (e *Event) IsState() bool { return e.StateKey != nil }

// StateID is the place in the state that a state event fills. Of an event that
// is not one, it is the type with an empty state key.
func (e *Event) StateID() Key {
	if e.StateKey == nil {
		return Key{Type: e.Type}
	}
	return Key{Type: e.Type, StateKey: *e.StateKey}
}

// Authorities are the events that authorise this one: its auth events, and in a room that is named after its create
// event also that, which auth events do not list there.
// https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules
func (e *Event) Authorities() []matrix.EventID {
	if e.Version.RoomIDs != CreateHashRoomIDs || e.Type == TypeCreate || e.RoomID == "" {
		return e.AuthEvents
	}
	return append(slices.Clip(e.AuthEvents), matrix.EventID("$"+e.RoomID[1:]))
}

// Membership is the membership that an m.room.member event gives its target;
// empty for other events and where content has none. Nobody has checked that
// it is one of the known ones.
func (e *Event) Membership() Membership { return e.membership }

// Target is the user whose membership an m.room.member state event sets; empty
// for other events. Nobody has checked that it is a valid user ID.
func (e *Event) Target() matrix.UserID {
	if e.Type != TypeMember || e.StateKey == nil {
		return ""
	}
	return matrix.UserID(*e.StateKey)
}

// membershipOf reads the membership from the content of a member event.
func membershipOf(content []byte) Membership {
	s, _ := canonical.String(canonical.Get(content, "membership"))
	switch m := Membership(s); m {
	case Join:
		return Join
	case Leave:
		return Leave
	default:
		return m
	}
}
