package federation_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/audience"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// audienceOf tells whom the audience of a world is.
type audienceOf struct {
	*world
	audience *audience.Rooms
}

func newAudience(t testing.TB) audienceOf {
	w := newWorld(t)
	return audienceOf{w, audience.NewRooms(w.db, w.rooms)}
}

// owes checks to whom an event is owed, by what is remembered and by an audience that remembers nothing.
func (l audienceOf) owes(room rooms.Room, what string, id matrix.EventID, want ...matrix.ServerName) {
	l.t.Helper()
	ev := l.stored(room, id)
	if ev == nil {
		l.t.Fatalf("%s: %s is not stored", what, id)
	}
	for _, a := range []*audience.Rooms{l.audience, audience.NewRooms(l.db, l.rooms)} {
		got, err := a.Owed(l.t.Context(), ev)
		got = slices.DeleteFunc(slices.Clone(got), func(s matrix.ServerName) bool { return s == us })
		if err != nil || !slices.Equal(got, want) {
			l.t.Errorf("%s: owed to %v, %v, want %v", what, got, err, want)
		}
	}
}

func (l audienceOf) serversOf(room rooms.Room, want ...matrix.ServerName) {
	l.t.Helper()
	got, err := l.audience.Servers(l.t.Context(), room.ID)
	if err != nil || !slices.Equal(got, want) {
		l.t.Errorf("the servers in the room: got %v, %v, want %v", got, err, want)
	}
}

// member is the event that made a user's present membership.
func (l audienceOf) member(room rooms.Room, user matrix.UserID) matrix.EventID {
	l.t.Helper()
	state, err := l.rooms.Current(l.t.Context(), room.ID)
	must(l.t, err)
	_, ev, err := state.Member(l.t.Context(), user)
	must(l.t, err)
	return ev.ID
}

func TestOwed(t *testing.T) {
	l := newAudience(t)
	them, third := l.them(), l.peer("third.example", 3)
	room := l.room("shared")
	carol := matrix.UserID("@bob:third.example") // who joins for a peer is called bob
	l.owes(room, "a message to nobody", l.say(room, "hello"))

	join := them.join(room)
	l.owes(room, "the join of the first", join.ID)
	hello := l.say(room, "hello")
	l.owes(room, "a message", hello, "them.example")
	l.owes(room, "the join of the second", third.join(room).ID, "them.example")
	l.owes(room, "a message to both", l.say(room, "hello"), "them.example", "third.example")
	l.owes(room, "the earlier message again", hello, "them.example")
	l.serversOf(room, "them.example", "third.example", us)

	sent := them.message(room, "from them")
	if got := l.rooms.Receive(t.Context(), "them.example", room.ID, []*event.Event{sent}); got[0].Outcome != roomserver.Accepted {
		t.Fatal(got)
	}
	l.owes(room, "a message of another server", sent.ID)

	must(t, l.rooms.Kick(t.Context(), by(alice), roomserver.Move{Room: room.ID, Target: carol}))
	l.owes(room, "a kick", l.member(room, carol), "them.example", "third.example")
	l.owes(room, "a message after the kick", l.say(room, "hello"), "them.example")

	leave := them.member(room, event.Leave)
	them.put(roomPath("v2", "send_leave", room, string(leave.ID)), []byte(leave.JSON)).is(`{}`)
	l.owes(room, "the leave of the last", leave.ID)
	l.owes(room, "a message to nobody any more", l.say(room, "hello"))
	l.serversOf(room, us)
}

func TestOwedToWhoWaitsOutside(t *testing.T) {
	l := newAudience(t)
	them := l.them()
	room := l.room("shared", roomserver.InitialState{Type: event.TypeJoinRules, Content: []byte(`{"join_rule":"knock"}`)})
	knock := them.member(room, event.Knock)
	them.put(roomPath("v1", "send_knock", room, string(knock.ID)), []byte(knock.JSON)).into(new(any))
	l.owes(room, "a knock", knock.ID)
	l.owes(room, "a message while one knocks", l.say(room, "hello"))
	must(t, l.rooms.Kick(t.Context(), by(alice), roomserver.Move{Room: room.ID, Target: bob}))
	l.owes(room, "the refusal of a knock", l.member(room, bob), "them.example")
	must(t, l.rooms.Ban(t.Context(), by(alice), roomserver.Move{Room: room.ID, Target: bob}))
	l.owes(room, "the ban of somebody outside", l.member(room, bob))
}

func TestOwedByACL(t *testing.T) {
	l := newAudience(t)
	them, third := l.them(), l.peer("third.example", 3)
	room := l.room("shared")
	them.join(room)
	third.join(room)
	acl := l.set(room, event.TypeServerACL, `{"allow":["*"],"deny":["third.*"]}`)
	l.owes(room, "the ACL", acl, "them.example", "third.example")
	l.owes(room, "a message under it", l.say(room, "hello"), "them.example")
	l.serversOf(room, "them.example", us)
	pardon := l.set(room, event.TypeServerACL, `{"allow":["*"]}`)
	l.owes(room, "what takes it back", pardon, "them.example")
	l.owes(room, "a message after that", l.say(room, "hello"), "them.example", "third.example")
}

func TestSharing(t *testing.T) {
	l := newAudience(t)
	them, third := l.them(), l.peer("third.example", 3)
	them.join(l.room("shared"))
	left := l.room("shared")
	third.join(left)
	check := func(want ...matrix.ServerName) {
		t.Helper()
		got, err := l.audience.Sharing(t.Context(), alice)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	check("them.example", "third.example", us)
	must(t, l.rooms.Leave(t.Context(), by(alice), left.ID, ""))
	check("them.example", us)
	if got, err := l.audience.Servers(t.Context(), left.ID); err != nil || len(got) != 0 {
		t.Errorf("the servers of a room that we left: got %v, %v, want none", got, err)
	}
	if got, err := l.audience.Servers(t.Context(), "!unknown:us.example"); err != nil || len(got) != 0 {
		t.Errorf("the servers of an unknown room: got %v, %v, want none", got, err)
	}
}

// BenchmarkOwed measures a message to a room of many servers.
func BenchmarkOwed(b *testing.B) {
	l := newAudience(b)
	room := l.room("shared")
	for i := range 50 {
		l.peer(matrix.ServerName(fmt.Sprintf("s%d.example", i)), byte(i+5)).join(room)
	}
	ev := l.stored(room, l.say(room, "hello"))
	b.ReportAllocs()
	for b.Loop() {
		if got, err := l.audience.Owed(b.Context(), ev); err != nil || len(got) != 51 {
			b.Fatal(len(got), err)
		}
	}
}
