package roomserver

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simTemplate is what an event is made of.
type simTemplate struct {
	proto event.Proto
	cited []*event.Event
}

// build makes an event of a host.
func build(v *event.Version, t simTemplate, h *simHost) (*event.Event, error) {
	if v.References == event.HashedReferences {
		t.proto.ReferenceHashes = make(map[matrix.EventID][32]byte)
		for _, ev := range t.cited {
			t.proto.ReferenceHashes[ev.ID] = ev.ReferenceHash()
		}
	}
	return event.Build(v, t.proto, h.name, h.key)
}

// on puts an event behind others, authorised by a state.
func (h *simHost) on(room rooms.Room, p event.Proto, prevs []*rooms.Event, state State) simTemplate {
	t := simTemplate{proto: p}
	t.proto.RoomID = room.ID
	for _, prev := range prevs {
		t.proto.PrevEvents = append(t.proto.PrevEvents, prev.ID)
		t.proto.Depth = max(t.proto.Depth, min(prev.Depth+1, room.Version.MaxDepth))
		t.cited = append(t.cited, prev.Event)
	}
	stateKey := ""
	if p.StateKey != nil {
		stateKey = *p.StateKey
	}
	found, err := state.Events(context.Background(), auth.Needed(room.Version, p.Type, stateKey, p.Sender, p.Content)...)
	h.sim.must(err)
	for _, ev := range found {
		if ev != nil {
			t.proto.AuthEvents = append(t.proto.AuthEvents, ev.ID)
			t.cited = append(t.cited, ev.Event)
		}
	}
	return t
}

// withLevel is the content of power levels with that of one user changed.
func withLevel(now *rooms.Event, user matrix.UserID, level int) []byte {
	content := make(map[string]json.RawMessage)
	for key, value := range canonical.Fields(now.Content) {
		content[key] = value
	}
	users := make(map[string]json.RawMessage)
	for key, value := range canonical.Fields(canonical.Get(now.Content, "users")) {
		users[key] = value
	}
	users[string(user)] = fmt.Append(nil, level)
	text, err := canonical.Marshal(users)
	if err == nil {
		content["users"] = text
		text, err = canonical.Marshal(content)
	}
	if err != nil {
		panic(err)
	}
	return text
}
