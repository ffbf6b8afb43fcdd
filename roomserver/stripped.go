package roomserver

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Types of state that the room server reads, beside those of package event.
const (
	typeName           = "m.room.name"
	typeTopic          = "m.room.topic"
	typeAvatar         = "m.room.avatar"
	typeCanonicalAlias = "m.room.canonical_alias"
	typeEncryption     = "m.room.encryption"
	typeGuestAccess    = "m.room.guest_access"
	typeTombstone      = "m.room.tombstone"
	typeServerACL      = "m.room.server_acl"
)

// strippedTypes is what those outside may know of a room that they are invited to, or knock on.
// https://spec.matrix.org/v1.19/client-server-api/#stripped-state
var strippedTypes = []event.Key{
	createKey, joinRulesKey, {Type: typeName}, {Type: typeTopic}, {Type: typeAvatar},
	{Type: typeCanonicalAlias}, {Type: typeEncryption},
}

// strippedState is what the target of an invite or a knock may know of the room: a JSON array that ends
// with the event itself. State that would make it too long is left out.
func (st *step) strippedState(ctx context.Context, ev *rooms.Event) ([]byte, error) {
	keys := strippedTypes
	if ev.Sender != ev.Target() {
		keys = append(keys[:len(keys):len(keys)], memberKey(ev.Sender))
	}
	found, err := st.knownIn(ctx, st.tip.state, keys)
	if err != nil {
		return nil, err
	}
	b := []byte{'['}
	for _, state := range found {
		if state == nil {
			continue
		}
		if longer := append(appendStripped(b, state.Event), ','); len(longer) <= maxStrippedBytes {
			b = longer
		}
	}
	return append(appendStripped(b, ev.Event), ']'), nil
}

// appendStripped appends the stripped form of a state event. The creation of a room also tells when that was.
// https://spec.matrix.org/v1.19/client-server-api/#stripped-state
func appendStripped(b []byte, ev *event.Event) []byte {
	b = append(b, `{"content":`...)
	b = append(b, ev.Content...)
	if ev.Type == event.TypeCreate {
		b = strconv.AppendInt(append(b, `,"origin_server_ts":`...), ev.OriginServerTS, 10)
	}
	b = append(b, `,"sender":`...)
	b = canonical.AppendString(b, string(ev.Sender))
	b = append(b, `,"state_key":`...)
	b = canonical.AppendString(b, *ev.StateKey)
	b = append(b, `,"type":`...)
	b = canonical.AppendString(b, ev.Type)
	return append(b, '}')
}
