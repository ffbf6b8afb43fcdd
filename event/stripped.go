package event

import (
	"strconv"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// The types of state by which people tell what a room is.
const (
	TypeName           = "m.room.name"
	TypeTopic          = "m.room.topic"
	TypeAvatar         = "m.room.avatar"
	TypeCanonicalAlias = "m.room.canonical_alias"
	TypeEncryption     = "m.room.encryption"
	TypeGuestAccess    = "m.room.guest_access"
	TypeTombstone      = "m.room.tombstone"
)

// The places in the state by which nearly every event is judged.
var (
	CreateKey      = Key{Type: TypeCreate}
	PowerLevelsKey = Key{Type: TypePowerLevels}
	JoinRulesKey   = Key{Type: TypeJoinRules}
)

// MemberKey is the place in the state where the membership of a user stands.
func MemberKey(user matrix.UserID) Key { return Key{Type: TypeMember, StateKey: string(user)} }

// StrippedKeys are the places of the state that those outside may know of a room that they are invited to, or knock on.
// https://spec.matrix.org/v1.19/client-server-api/#stripped-state
func StrippedKeys() []Key {
	return []Key{
		CreateKey, JoinRulesKey, {Type: TypeName}, {Type: TypeTopic}, {Type: TypeAvatar},
		{Type: TypeCanonicalAlias}, {Type: TypeEncryption},
	}
}

// AppendStripped appends the stripped form of a state event. The creation of a room also tells when that was.
// https://spec.matrix.org/v1.19/client-server-api/#stripped-state
func (e *Event) AppendStripped(b []byte) []byte {
	b = append(b, `{"content":`...)
	b = append(b, e.Content...)
	if e.Type == TypeCreate {
		b = strconv.AppendInt(append(b, `,"origin_server_ts":`...), e.OriginServerTS, 10)
	}
	b = append(b, `,"sender":`...)
	b = canonical.AppendString(b, string(e.Sender))
	b = append(b, `,"state_key":`...)
	b = canonical.AppendString(b, *e.StateKey)
	b = append(b, `,"type":`...)
	b = canonical.AppendString(b, e.Type)
	return append(b, '}')
}
