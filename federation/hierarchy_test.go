package federation_test

import (
	"encoding/json"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// space makes a space of alice's with some rooms in it.
func (w *world) space(children map[matrix.RoomID]string) rooms.Room {
	w.t.Helper()
	id, err := w.rooms.Create(w.t.Context(), by(alice), roomserver.CreateRoom{
		Preset: "public_chat", Name: "Space", CreationContent: []byte(`{"type":"m.space"}`),
	})
	must(w.t, err)
	room, err := w.rooms.Room(w.t.Context(), id)
	must(w.t, err)
	for child, content := range children {
		_, err := w.rooms.SendState(w.t.Context(), by(alice), roomserver.SendState{
			Room: id, Type: "m.space.child", StateKey: string(child), Content: []byte(content),
		})
		must(w.t, err)
	}
	return room
}

func TestHierarchy(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	open, closed, knocked, allowed := w.room("shared"), w.room("shared"), w.room("shared"), w.room("shared")
	w.set(open, "m.room.name", `{"name":"Open"}`)
	w.set(open, "m.room.encryption", `{"algorithm":"m.megolm.v1.aes-sha2"}`)
	w.set(closed, event.TypeJoinRules, `{"join_rule":"invite"}`)
	w.set(knocked, event.TypeJoinRules, `{"join_rule":"knock"}`)
	w.set(allowed, event.TypeJoinRules, `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"`+string(closed.ID)+
		`"},{"type":"m.room_membership","room_id":"`+string(open.ID)+`"},{"type":"x","room_id":"`+string(knocked.ID)+`"},1]}`)
	const via = `{"via":["us.example"]`
	space := w.space(map[matrix.RoomID]string{
		open.ID: via + `,"order":"b","suggested":true}`, closed.ID: via + `,"order":"a"}`, knocked.ID: via + `}`, allowed.ID: via + `,"order":"c"}`,
		"!elsewhere:them.example": via + `,"order":"\u0001"}`, "!gone:us.example": `{}`, "!odd:us.example": `{"via":"us.example"}`,
	})
	names := func(list []remote.SpaceRoom) (ids []matrix.RoomID) {
		for _, r := range list {
			ids = append(ids, r.RoomID)
		}
		return ids
	}
	var out remote.Hierarchy
	uri := path("v1", "hierarchy", string(space.ID))
	them.get(uri).into(&out)
	if out.Room.Name != "Space" || out.Room.RoomType != "m.space" || out.Room.JoinedMembers != 1 || len(out.Room.ChildrenState) != 5 || out.Room.ChildrenState[0].StateKey != closed.ID {
		t.Errorf("the space: got %+v, want its name and five children, the closed room first", out.Room)
	}
	if got := names(out.Children); len(got) != 2 || got[0] != open.ID || got[1] != knocked.ID {
		t.Errorf("children: got %v, want the open room and the one to knock on", got)
	}
	if len(out.Inaccessible) != 2 {
		t.Errorf("inaccessible: got %v, want the closed and the restricted room", out.Inaccessible)
	}
	if c := out.Children[0]; c.Encryption == "" || c.RoomVersion != "11" || c.JoinRule != "public" {
		t.Errorf("the open room: got %+v, want its encryption, version and rule", c)
	}
	them.join(open) // whose members may join the restricted room
	out = remote.Hierarchy{}
	them.get(uri).into(&out)
	if len(out.Children) != 3 || len(out.Inaccessible) != 1 {
		t.Errorf("after joining: got %v and %v, want the restricted room too", names(out.Children), out.Inaccessible)
	}
	out = remote.Hierarchy{}
	them.get(uri + "?suggested_only=true").into(&out)
	if len(out.Room.ChildrenState) != 1 || len(out.Children) != 1 {
		t.Errorf("suggested: got %v, want the open room", names(out.Children))
	}
	// A room that is no space, with the list that the specification wants.
	var plain struct {
		Room map[string]json.RawMessage `json:"room"`
	}
	them.get(path("v1", "hierarchy", string(open.ID))).into(&plain)
	if string(plain.Room["children_state"]) != "[]" {
		t.Errorf("a room that is no space: got %s, want no children", plain.Room["children_state"])
	}
	them.get(path("v1", "hierarchy", string(closed.ID))).fails(404, matrix.NotFound)
	them.get(path("v1", "hierarchy", "!none:us.example")).fails(404, matrix.NotFound)
	them.get(path("v1", "hierarchy", "x")).fails(400, matrix.InvalidParam)

	// The room is inaccessible to others, and not there for those who have nobody in it.
	w.set(open, event.TypeHistoryVisibility, `{"history_visibility":"world_readable"}`)
	w.set(open, event.TypeJoinRules, `{"join_rule":"invite"}`)
	w.peer("third.example", 3).get(path("v1", "hierarchy", string(open.ID))).into(new(any))
}
