package syncapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/users"
)

func accountDatum(room matrix.RoomID, typ, content string) users.AccountDatum {
	return users.AccountDatum{Room: room, Type: typ, Content: []byte(content)}
}

func TestNewlyJoinedRoomComesWhole(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		since := w.sync(bob, nil).NextBatch
		room := w.create(alice, roomserver.CreateRoom{Topic: "trees"})
		w.send(alice, room, "before")
		w.setData(bob, room, "m.tag", `{"tags":{}}`)
		since2 := w.sync(bob, query{"since": since}).NextBatch
		w.join(room, bob)
		r := w.sync(bob, query{"since": since2, "filter": `{"room":{"timeline":{"limit":2}}}`}).Rooms.Join[room]
		want(t, "timeline", bodies(r.Timeline.Events), "before", "join @bob:test")
		if r.State == nil || !slices.Contains(bodies(r.State.Events), "m.room.topic") || !r.Timeline.Limited {
			t.Errorf("got %+v, want a limited timeline and all of the state", r)
		}
		want(t, "account data", bodies(r.AccountData.Events), "m.tag")
	})
}

func TestLeftRooms(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob)
		start := w.sync(bob, nil)
		w.send(alice, room, "seen")
		must(t, w.rooms.Leave(ctx, who(bob), room, ""))
		w.send(alice, room, "unseen")
		for _, restarted := range []bool{false, true} {
			if restarted {
				w.start()
			}
			next := w.sync(bob, query{"since": start.NextBatch})
			want(t, "what the leaver saw", bodies(next.Rooms.Leave[room].Timeline.Events), "seen", "leave @bob:test")
			if len(next.Rooms.Join) != 0 {
				t.Errorf("joined rooms: got %v, want none", next.Rooms.Join)
			}
			after := w.sync(bob, query{"since": next.NextBatch})
			if len(after.Rooms.Leave) != 0 {
				t.Errorf("told once: got %v again", after.Rooms.Leave)
			}
		}
		if got := w.sync(bob, nil); len(got.Rooms.Leave) != 0 {
			t.Errorf("initial sync: got left rooms %v, want none", got.Rooms.Leave)
		}
		r := w.sync(bob, query{"filter": `{"room":{"include_leave":true,"timeline":{"limit":1}}}`}).Rooms.Leave[room]
		want(t, "with include_leave", bodies(r.Timeline.Events), "leave @bob:test")
		left := w.sync(bob, nil).NextBatch
		must(t, w.rooms.Forget(ctx, who(bob), room))
		if got := w.sync(bob, query{"since": left}); len(got.Rooms.Leave) != 0 {
			t.Errorf("sync across forget: got %v, want nothing new", got.Rooms.Leave)
		}
		if got := w.sync(bob, query{"since": start.NextBatch}); len(got.Rooms.Leave) != 1 {
			t.Errorf("sync across leave and forget: got %v, want the leave", got.Rooms.Leave)
		}
		if got := w.sync(bob, query{"filter": `{"room":{"include_leave":true}}`}); len(got.Rooms.Leave) != 0 {
			t.Errorf("after forget: got %v, want none", got.Rooms.Leave)
		}
	})
}

// Who was put out of a room is told so by an initial sync too, until it forgets the room.
func TestRemovedByOthers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		kicked, banned, uninvited := w.create(alice, roomserver.CreateRoom{}), w.create(alice, roomserver.CreateRoom{}), w.create(alice, roomserver.CreateRoom{})
		left := w.create(alice, roomserver.CreateRoom{})
		for _, room := range []matrix.RoomID{kicked, banned, left} {
			w.join(room, bob)
		}
		must(t, w.rooms.Invite(ctx, who(alice), roomserver.Move{Room: uninvited, Target: bob}))
		must(t, w.rooms.Kick(ctx, who(alice), roomserver.Move{Room: uninvited, Target: bob}))
		must(t, w.rooms.Kick(ctx, who(alice), roomserver.Move{Room: kicked, Target: bob}))
		must(t, w.rooms.Ban(ctx, who(alice), roomserver.Move{Room: banned, Target: bob}))
		must(t, w.rooms.Leave(ctx, who(bob), left, ""))
		got := w.sync(bob, nil).Rooms.Leave
		for room, last := range map[matrix.RoomID]string{kicked: "leave @bob:test", banned: "ban @bob:test", uninvited: "leave @bob:test"} {
			if told := bodies(got[room].Timeline.Events); len(told) == 0 || told[len(told)-1] != last {
				t.Errorf("got %q, want it to end with %s", told, last)
			}
		}
		if len(got) != 3 {
			t.Errorf("got %d left rooms, want 3: not the one that bob left", len(got))
		}
		must(t, w.rooms.Forget(ctx, who(bob), kicked))
		if got := w.sync(bob, nil).Rooms.Leave; len(got) != 2 {
			t.Errorf("after forgetting one: got %d left rooms, want 2", len(got))
		}
	})
}

func TestInvitesAndKnocks(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		since := w.sync(bob, nil).NextBatch
		room := w.create(alice, roomserver.CreateRoom{Preset: "private_chat", Name: "den"})
		must(t, w.rooms.Invite(ctx, who(alice), roomserver.Move{Room: room, Target: bob}))
		a := w.sync(bob, query{"since": since})
		if got := bodies(a.Rooms.Invite[room].State.Events); !slices.Contains(got, "m.room.name") || !slices.Contains(got, "invite @bob:test") {
			t.Errorf("invite state: got %q, want the name and the invite", got)
		}
		if again := w.sync(bob, query{"since": a.NextBatch}); len(again.Rooms.Invite) != 0 {
			t.Errorf("told once: got %v again", again.Rooms.Invite)
		}
		must(t, w.rooms.Leave(ctx, who(bob), room, ""))
		left := w.sync(bob, query{"since": a.NextBatch})
		want(t, "refused", bodies(left.Rooms.Leave[room].Timeline.Events), "leave @bob:test")

		w.state(alice, room, "m.room.join_rules", `{"join_rule":"knock"}`)
		must(t, w.rooms.Knock(ctx, who(bob), room, "please"))
		knocked := w.sync(bob, query{"since": left.NextBatch})
		if got := bodies(knocked.Rooms.Knock[room].State.Events); !slices.Contains(got, "m.room.name") {
			t.Errorf("knock state: got %q, want the name in it", got)
		}
	})
}

func TestIgnoredUsers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob, carol)
		w.setData(bob, "", "m.ignored_user_list", `{"ignored_users":{"@carol:test":{}}}`)
		since := w.sync(bob, nil).NextBatch
		w.send(carol, room, "spam")
		w.send(alice, room, "news")
		w.state(alice, room, "m.room.topic", `{"topic":"x"}`)
		other := w.create(carol, roomserver.CreateRoom{})
		must(t, w.rooms.Invite(ctx, who(carol), roomserver.Move{Room: other, Target: bob}))
		a := w.sync(bob, query{"since": since})
		want(t, "timeline", bodies(a.Rooms.Join[room].Timeline.Events), "news", "m.room.topic")
		if len(a.Rooms.Invite) != 0 {
			t.Errorf("invites: got %v, want none", a.Rooms.Invite)
		}
	})
}

func TestHistoryVisibilityInTimelines(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.state(alice, room, "m.room.history_visibility", `{"history_visibility":"joined"}`)
		w.send(alice, room, "secret")
		w.join(room, bob)
		w.send(alice, room, "open")
		r := w.sync(bob, nil).Rooms.Join[room]
		want(t, "timeline", bodies(r.Timeline.Events)[len(r.Timeline.Events)-2:], "join @bob:test", "open")
		if slices.Contains(bodies(r.Timeline.Events), "secret") {
			t.Errorf("got %q: history from before the join shows", bodies(r.Timeline.Events))
		}
	})
}

func TestLazyLoading(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{Name: "den"})
		w.join(room, bob, carol)
		w.send(alice, room, "hi")
		filter := `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}`
		first := w.sync(bob, query{"filter": filter})
		r := first.Rooms.Join[room]
		wantSorted(t, "members at first", members(r.State), "join @alice:test", "join @bob:test")
		if r.Summary.Joined != 3 || len(r.Summary.Heroes) != 0 {
			t.Errorf("summary: got %+v, want 3 joined, and no heroes as the room has a name", r.Summary)
		}
		w.send(carol, room, "hey")
		second := w.sync(bob, query{"since": first.NextBatch, "filter": filter})
		want(t, "members with a new sender", members(second.Rooms.Join[room].State), "join @carol:test")
		w.send(carol, room, "ho")
		third := w.sync(bob, query{"since": second.NextBatch, "filter": filter})
		want(t, "members already sent", members(third.Rooms.Join[room].State))
		retry := w.sync(bob, query{"since": first.NextBatch, "filter": filter})
		want(t, "members of a lost answer", members(retry.Rooms.Join[room].State), "join @carol:test")
	})
}

func TestHeroesComeWithTheirMembers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob, carol)
		filter := `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}`
		first := w.sync(bob, query{"filter": filter})
		r := first.Rooms.Join[room]
		if !slices.Equal(r.Summary.Heroes, []matrix.UserID{alice, carol}) {
			t.Errorf("heroes: got %v, want alice and carol", r.Summary.Heroes)
		}
		wantSorted(t, "members", members(r.State), "join @alice:test", "join @bob:test", "join @carol:test")
		if others := w.sync(carol, nil).Rooms.Join[room].Summary.Heroes; !slices.Equal(others, []matrix.UserID{alice, bob}) {
			t.Errorf("heroes of another user: got %v, want alice and bob", others)
		}
		must(t, w.rooms.Leave(ctx, who(carol), room, ""))
		r = w.sync(bob, query{"since": first.NextBatch, "filter": filter}).Rooms.Join[room]
		if r.Summary.Joined != 2 || !slices.Equal(r.Summary.Heroes, []matrix.UserID{alice}) {
			t.Errorf("summary after a leave: got %+v, want 2 joined and alice", r.Summary)
		}
	})
}

func members(state *events) []string {
	var all []string
	if state == nil {
		return nil
	}
	for _, e := range state.Events {
		if e.Type == "m.room.member" {
			all = append(all, bodies([]clientEvent{e})...)
		}
	}
	return all
}

func TestFullState(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{Name: "den"})
		since := w.sync(alice, nil).NextBatch
		w.send(alice, room, "x")
		r := w.sync(alice, query{"since": since, "full_state": "true"}).Rooms.Join[room]
		want(t, "timeline", bodies(r.Timeline.Events), "x")
		if r.State == nil || !slices.Contains(bodies(r.State.Events), "m.room.name") {
			t.Errorf("state: got %+v, want all of it", r.State)
		}
	})
}

func TestTypingAndReceipts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob)
		id := w.send(alice, room, "x")
		since := w.sync(bob, nil).NextBatch
		w.eph.SetTyping(room, alice, time.Minute)
		for _, kind := range []string{"m.read", "m.read.private"} {
			must(t, w.rooms.SetReceipt(ctx, who(alice), roomserver.SetReceipt{Room: room, Type: kind, Event: id}))
		}
		for _, restarted := range []bool{false, true} {
			if restarted {
				w.start()
			}
			r := w.sync(bob, query{"since": since}).Rooms.Join[room]
			want(t, "ephemeral", bodies(r.Ephemeral.Events), "m.typing", "m.receipt")
			var content map[matrix.EventID]map[string]map[matrix.UserID]any
			must(t, json.Unmarshal(r.Ephemeral.Events[1].Content, &content))
			if len(content[id]) != 1 || content[id]["m.read"][alice] == nil {
				t.Errorf("receipts: got %v, want alice's public one only", content)
			}
		}
		mine := w.sync(alice, nil).Rooms.Join[room]
		var content map[matrix.EventID]map[string]map[matrix.UserID]any
		must(t, json.Unmarshal(mine.Ephemeral.Events[len(mine.Ephemeral.Events)-1].Content, &content))
		if content[id]["m.read.private"][alice] == nil {
			t.Errorf("own receipts: got %v, want the private one in them", content)
		}
		w.eph.SetTyping(room, alice, 0)
		r := w.sync(bob, query{"since": since}).Rooms.Join[room]
		if got := string(r.Ephemeral.Events[0].Content); got != `{"user_ids":[]}` {
			t.Errorf("typing after it stopped: got %s, want nobody", got)
		}
	})
}

func TestPresenceOfNeighboursOnly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob)
		for _, u := range []matrix.UserID{bob, carol} {
			must(t, w.eph.SetPresence(u, "online", "here"))
		}
		var senders []string
		for _, e := range w.sync(alice, query{"set_presence": "offline"}).Presence.Events {
			senders = append(senders, string(e.Sender))
		}
		want(t, "presence", senders, string(bob))
	})
}

func TestAccountData(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		first := w.sync(alice, nil)
		if got := bodies(first.AccountData.Events); !slices.Contains(got, "m.push_rules") {
			t.Errorf("initial account data: got %q, want push rules in it", got)
		}
		w.setData(alice, "", "org.example.g", `{"v":1}`)
		w.setData(alice, room, "org.example.r", `{"v":2}`)
		next := w.sync(alice, query{"since": first.NextBatch})
		want(t, "global", bodies(next.AccountData.Events), "org.example.g")
		want(t, "of the room", bodies(next.Rooms.Join[room].AccountData.Events), "org.example.r")
		if len(next.Rooms.Join[room].Timeline.Events) != 0 {
			t.Errorf("timeline: got %v, want none", next.Rooms.Join[room].Timeline.Events)
		}
	})
}

func TestRedactedEventsShowRedacted(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		since := w.sync(alice, nil).NextBatch
		id := w.send(alice, room, "oops")
		w.sync(alice, query{"since": since}) // the ring holds it now
		_, err := w.rooms.Redact(ctx, who(alice), roomserver.RedactEvent{Room: room, Event: id, Reason: "typo"})
		must(t, err)
		r := w.sync(alice, query{"since": since}).Rooms.Join[room]
		if got := string(r.Timeline.Events[0].Content); got != "{}" {
			t.Errorf("content: got %s, want {}", got)
		}
		if because := r.Timeline.Events[0].Unsigned.Because; because == nil || because.Type != "m.room.redaction" {
			t.Errorf("redacted_because: got %+v, want the redaction", because)
		}
	})
}

func TestFilters(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		other := w.create(alice, roomserver.CreateRoom{})
		since := w.sync(alice, nil).NextBatch
		for i := range 40 {
			w.send(alice, room, fmt.Sprint(i))
			if i%10 == 0 {
				w.state(alice, room, "m.room.topic", fmt.Sprintf(`{"topic":"%d"}`, i))
			}
		}
		w.send(alice, other, "elsewhere")
		for _, restarted := range []bool{false, true} {
			if restarted {
				w.start()
			}
			a := w.sync(alice, query{"since": since, "filter": fmt.Sprintf(
				`{"room":{"rooms":[%q],"timeline":{"types":["m.room.t*"],"limit":3}},"event_fields":["type","content.topic"]}`, room)})
			r := a.Rooms.Join[room]
			if len(r.Timeline.Events) != 3 || !r.Timeline.Limited || len(a.Rooms.Join) != 1 {
				t.Fatalf("got %+v, want the last three topics of one room, limited", a.Rooms.Join)
			}
			if e := r.Timeline.Events[2]; string(e.Content) != `{"topic":"30"}` || e.Sender != "" {
				t.Errorf("got %+v, want only type and content.topic", e)
			}
		}
	})
}

func TestPresenceOfNewcomers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		must(t, w.eph.SetPresence(alice, "online", "hello"))
		must(t, w.eph.SetPresence(bob, "online", "hi"))
		room := w.create(alice, roomserver.CreateRoom{})
		quiet := query{"set_presence": "offline"}
		hers, his := w.sync(alice, quiet).NextBatch, w.sync(bob, quiet).NextBatch
		w.join(room, bob)
		for _, tc := range []struct {
			reader, other matrix.UserID
			since         string
		}{{alice, bob, hers}, {bob, alice, his}} {
			a := w.sync(tc.reader, query{"set_presence": "offline", "since": tc.since})
			if len(a.Presence.Events) != 1 || a.Presence.Events[0].Sender != tc.other {
				t.Errorf("presence told to %s: got %+v, want that of %s", tc.reader, a.Presence.Events, tc.other)
			}
			again := w.sync(tc.reader, query{"set_presence": "offline", "since": a.NextBatch})
			if len(again.Presence.Events) != 0 {
				t.Errorf("told once: got %+v again", again.Presence.Events)
			}
		}
	})
}

func TestTimelineOfNoEvents(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{Name: "den"})
		r := w.sync(alice, query{"filter": `{"room":{"timeline":{"limit":0}}}`}).Rooms.Join[room]
		if len(r.Timeline.Events) != 0 || !r.Timeline.Limited || r.State == nil {
			t.Errorf("got %+v, want no events, limited, and the state", r)
		}
	})
}
