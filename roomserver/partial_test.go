package roomserver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// partAnswer is what bob's server says to the join of alice after an event, if it leaves the members out.
func (w *wire) partAnswer(prev *event.Event) roomserver.JoinAnswer {
	w.t.Helper()
	in := w.answer(prev)
	in.AuthChain = nil
	for _, ev := range in.State {
		// All stands on bob, who made the room.
		if ev.Type != event.TypeMember || ev.Target() == user(bobThere) {
			in.AuthChain = append(in.AuthChain, ev)
		}
	}
	in.State = slices.DeleteFunc(slices.Clone(in.State), func(ev *event.Event) bool { return ev.Type == event.TypeMember })
	in.MembersOmitted, in.Servers = true, []matrix.ServerName{elsewhere, "other.org"}
	return in
}

// enterPartly joins alice to the room after its last event, which is no member's, and has the script know the members.
func (w *wire) enterPartly() {
	w.t.Helper()
	last := w.say(bobThere, "before", w.base)
	w.tellState(last, w.base)
	if err := w.s.Adopt(context.Background(), w.partAnswer(last)); err != nil {
		w.t.Fatal(err)
	}
	w.tiePartly()
}

// tiePartly takes up a partial room: what the members are, the wire knows already.
func (w *wire) tiePartly() {
	w.t.Helper()
	ctx := context.Background()
	room, err := w.s.Room(ctx, w.room.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	w.room = room
	head, _, err := rooms.HeadOf(ctx, w.db, room.Num)
	if err != nil {
		w.t.Fatal(err)
	}
	last, err := w.s.Events(ctx, room, head.Extremities)
	if err != nil {
		w.t.Fatal(err)
	}
	before := make(map[event.Key]*event.Event)
	for _, prev := range last[0].PrevEvents {
		maps.Copy(before, w.after[prev])
	}
	if last[0].IsState() {
		before[last[0].StateID()] = last[0].Event
	}
	w.base = last[0].Event
	w.after[w.base.ID] = before
	w.remote.know(w.base, nil)
}

// restart makes a new server on the same database.
func (w *wire) restart() {
	set := settings(w.t, w.db)
	set.Remote, set.Key = w.remote, w.key
	w.s = roomserver.New(set)
}

func (w *wire) isPartial() bool {
	w.t.Helper()
	partial, err := w.s.IsPartial(context.Background(), w.room)
	if err != nil {
		w.t.Fatal(err)
	}
	return partial
}

func (w *wire) complete() {
	w.t.Helper()
	if err := w.s.CompletePartial(context.Background(), w.room.Num, 0); err != nil {
		w.t.Fatal(err)
	}
	if w.isPartial() {
		w.t.Fatal("the room is still partial")
	}
}

// isShown says whether an event is in the timeline.
func (w *wire) isShown(ev *event.Event) bool {
	w.t.Helper()
	page, err := rooms.Page(context.Background(), w.db, w.room, rooms.PageQuery{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.ContainsFunc(page, func(e *rooms.Event) bool { return e.ID == ev.ID })
}

func onPartial(t *testing.T, f func(t *testing.T, w *wire)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, version := range []matrix.RoomVersion{"1", "6", "11", "12"} {
			t.Run("v"+string(version), func(t *testing.T) {
				w := found(t, db, version, 3)
				f(t, w)
				w.audit()
				w.restart()
				w.audit() // the same after a restart
			})
		}
	})
}

// A room is at once there to speak and to listen in, and its members come later. What was accepted meanwhile stays as it is.
func TestPartialJoin(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		ctx := t.Context()
		w.enterPartly()
		if !w.isPartial() {
			t.Fatal("the room is not partial")
		}
		alias := matrix.RoomAlias(fmt.Sprintf("#large%s:%s", w.room.Version.ID, w.s.ServerName()))
		if err := w.s.SetAlias(ctx, as("alice"), alias, w.room.ID); err != nil {
			t.Fatal(err)
		}
		if _, servers, err := w.s.ResolveAlias(ctx, alias); err != nil || !slices.Contains(servers, elsewhere) {
			t.Errorf("servers of an alias: got %v, %v; want %s among them", servers, err, elsewhere)
		}
		sent, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "hello"))
		if err != nil {
			t.Fatal(err)
		}
		w.tiePartly()
		// Of the sender of this, nothing is here: its membership comes with its auth chain.
		said := w.say("member1:elsewhere.org", "welcome", w.base)
		topic := w.topic(bobThere, "new", said)
		gone := w.member("member2:elsewhere.org", "member2:elsewhere.org", "leave", topic)
		come := w.join("dora:elsewhere.org", gone)
		w.must(roomserver.Accepted, said, topic, gone, come)
		now, err := w.s.Current(ctx, w.room.ID)
		if err != nil {
			t.Fatal(err)
		}
		found, err := now.Known(ctx, memberOf("member0"), memberOf("member2"), memberOf("dora"))
		if err != nil || found[0] != nil || found[1] == nil || found[2] == nil {
			t.Errorf("known of the members: got %v, %v; want the two that moved", found, err)
		}
		waited := make(chan string, 1)
		go func() {
			members, err := now.Members(ctx)
			one, err2 := now.Events(ctx, memberOf("member0"))
			waited <- fmt.Sprint(len(members), len(one), err, err2)
		}()
		key := event.Key{Type: event.TypeMember, StateKey: string(said.Sender)}
		if got, err := now.Cited(ctx, []*rooms.Event{w.stored(said)}, key, memberOf("member0")); err != nil || got[0] == nil || got[0].Target() != said.Sender || got[1] != nil {
			t.Errorf("the sender of a message: got %v, %v; want its member event alone", got, err)
		}
		for name, want := range map[string]bool{"member0:elsewhere.org": true, "member2:elsewhere.org": false, "who:third.org": false, "nobody": false} {
			if got, err := w.s.MayBeJoined(ctx, w.room, user(name)); got != want || err != nil {
				t.Errorf("may %s be joined: got %v, %v; want %v", name, got, err, want)
			}
		}
		at := w.db.Position()
		select {
		case got := <-waited:
			t.Errorf("all members: got %s at once", got)
		default:
		}
		w.complete()
		if got, want := <-waited, "6 1 <nil> <nil>"; got != want {
			t.Errorf("all members: got %s, want %s", got, want)
		}
		for _, ev := range []*event.Event{said, topic, gone, come} {
			if had := w.stored(ev); had.Kind != rooms.Live || had.Position == 0 || had.Position > at {
				t.Errorf("%s: got kind %d at %d, want it live at its old place", ev.Type, had.Kind, had.Position)
			}
		}
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{come.ID}) {
			t.Errorf("extremities: got %v, want the last event", got)
		}
		for _, c := range []struct{ who, want string }{
			{"member0:elsewhere.org", "join"}, {"member2:elsewhere.org", "leave"}, {"dora:elsewhere.org", "join"}, {bobThere, "join"}, {"alice", "join"},
		} {
			if got := w.memberState(c.who); got != c.want {
				t.Errorf("%s: got %q, want %q", c.who, got, c.want)
			}
		}
		// States from the time in between are whole as well.
		join, _, err := rooms.EventByID(ctx, w.db, w.room, sent)
		if err != nil {
			t.Fatal(err)
		}
		members, err := w.s.StateAt(w.room, join.StateBefore).Members(ctx)
		if err != nil || len(members) != 5 {
			t.Errorf("members at the first message: got %d, %v; want 5", len(members), err)
		}
		w.must(roomserver.Accepted, w.say("member0:elsewhere.org", "after", come))
		if got := roomserver.Waiting(w.s); got != 0 {
			t.Errorf("%d rooms are waited for when all are whole", got)
		}
	})
}

func memberOf(name string) event.Key {
	return event.Key{Type: event.TypeMember, StateKey: string(user(name + ":elsewhere.org"))}
}

// liar makes an event by somebody who has left, which cites that he is in the room.
func (w *wire) liar(by string, p proto, joined *event.Event) *event.Event {
	w.t.Helper()
	p.by = by
	for _, ev := range w.after[p.prevs[0].ID] {
		switch {
		case ev.Type == event.TypeMember && ev.Target() == user(by):
		case ev.Type == event.TypeMember && (p.stateKey == nil || string(ev.Target()) != *p.stateKey):
		case ev.Type == event.TypeCreate && !w.room.Version.CreateInAuthEvents:
		case ev.Type == event.TypeJoinRules, ev.Type == "m.room.topic":
		default:
			p.auth = append(p.auth, ev.ID)
		}
	}
	p.auth = append(p.auth, joined.ID)
	return w.make(p)
}

// What was accepted on false memberships is taken back, and what was refused for its sake is let in.
func TestPartialJoinCorrects(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		ctx := t.Context()
		mallory := "mallory:elsewhere.org"
		was := w.join(mallory, w.base)
		levels := w.set(bobThere, "m.room.power_levels", w.levels(map[string]int{mallory: 60, "member0:elsewhere.org": 50}), was)
		w.base = w.member(bobThere, mallory, "ban", levels)
		w.enterPartly()
		join := w.base
		// Mallory is banned, which nobody here knows.
		said := w.liar(mallory, proto{typ: "m.room.message", content: `{"body":"I am here"}`, prevs: []*event.Event{join}}, was)
		target, empty := string(user("member0:elsewhere.org")), ""
		kick := w.liar(mallory, proto{typ: "m.room.member", stateKey: &target, content: `{"membership":"leave"}`, prevs: []*event.Event{said}}, was)
		topic := w.liar(mallory, proto{typ: "m.room.topic", stateKey: &empty, content: `{"topic":"mine"}`, prevs: []*event.Event{kick}}, was)
		// The wire knows better than to believe it.
		w.after[topic.ID] = w.after[join.ID]
		honest := w.topic("member0:elsewhere.org", "ours", topic)
		last := w.say(bobThere, "last", honest)
		if got := w.outcomes(said, kick, topic, honest, last); got != "aaara" {
			t.Fatalf("while members are unknown: got %q, want aaara", got)
		}
		if got := w.state("m.room.topic", "", "topic"); got != "mine" {
			t.Fatalf("topic: got %q, want that of the liar, for now", got)
		}
		w.complete()
		for _, c := range []struct {
			ev   *event.Event
			want rooms.Kind
		}{{said, rooms.Rejected}, {kick, rooms.Rejected}, {topic, rooms.Rejected}, {honest, rooms.Live}, {last, rooms.Live}} {
			if got := w.stored(c.ev); got.Kind != c.want || (got.Position != 0) != (c.want == rooms.Live) {
				t.Errorf("%s by %s: got kind %d at %d, want kind %d", c.ev.Type, c.ev.Sender, got.Kind, got.Position, c.want)
			}
			if got := w.isShown(c.ev); got != (c.want == rooms.Live) {
				t.Errorf("%s by %s: shown is %v", c.ev.Type, c.ev.Sender, got)
			}
		}
		if got := w.state("m.room.topic", "", "topic"); got != "ours" {
			t.Errorf("topic: got %q, want ours", got)
		}
		if got := w.memberState("member0:elsewhere.org"); got != "join" {
			t.Errorf("who was kicked: got %q, want join", got)
		}
		if got := w.memberState(mallory); got != "ban" {
			t.Errorf("the liar: got %q, want ban", got)
		}
		// As if the members had been known: nothing that stands follows the join.
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{join.ID, last.ID}) {
			t.Errorf("extremities: got %v, want the join and the last event", got)
		}
		if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "hello")); err != nil {
			t.Error(err)
		}
		w.must(roomserver.Rejected, w.liar(mallory, proto{typ: "m.room.message", content: `{"body":"again"}`, prevs: []*event.Event{last}}, was))
	})
}

// A user of ours is in the room already, who has not heard that its join came to something: that is told with the members.
func TestPartialJoinBringsOurs(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 3)
		w.base = w.join("carol", w.base)
		w.enterPartly()
		before := db.Position()
		w.complete()
		m, _, err := rooms.MembershipOf(t.Context(), db, w.room.Num, user("carol"))
		if err != nil || m.Membership != event.Join || m.Position <= before {
			t.Errorf("carol is %q since %d, %v; want in the room, and told of it after %d", m.Membership, m.Position, err, before)
		}
		w.audit()
	})
}

// levels is the content of power levels in which bob has all that the room version lets him be given.
func (w *wire) levels(users map[string]int) string {
	var list []string
	if !w.room.Version.CreatorsOutOfLevels {
		list = append(list, fmt.Sprintf(`%q:100`, user(bobThere)))
	}
	for _, name := range slices.Sorted(maps.Keys(users)) {
		list = append(list, fmt.Sprintf("%q:%d", user(name), users[name]))
	}
	return `{"users":{` + strings.Join(list, ",") + `}}`
}

// Branches that met while members were unknown are merged once more.
func TestPartialJoinForks(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		w.enterPartly()
		join := w.base
		left := w.topic(bobThere, "left", join)
		leaves := w.member("member1:elsewhere.org", "member1:elsewhere.org", "leave", left)
		right := w.say("member2:elsewhere.org", "still here", join)
		merged := w.say(bobThere, "both", leaves, right)
		w.after[merged.ID] = w.after[leaves.ID]
		w.must(roomserver.Accepted, merged, right, leaves, left)
		w.must(roomserver.Accepted, w.say(bobThere, "on", merged))
		w.complete()
		if got := w.memberState("member1:elsewhere.org"); got != "leave" {
			t.Errorf("who has left: got %q, want leave", got)
		}
		if got := w.extremities(); len(got) != 1 {
			t.Errorf("extremities: got %v, want one", got)
		}
		for _, ev := range []*event.Event{left, leaves, right, merged} {
			if !w.isShown(ev) {
				t.Errorf("%s is not shown", ev.Type)
			}
		}
	})
}

// A user of ours who acts on somebody unknown waits for the members.
func TestPartialJoinWaits(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 3)
		w.base = w.set(bobThere, "m.room.power_levels", w.levels(map[string]int{"alice": 100}), w.base)
		w.enterPartly()
		ctx := t.Context()
		done := make(chan error, 1)
		go func() {
			done <- w.s.Kick(ctx, as("alice"), roomserver.Move{Room: w.room.ID, Target: user("member1:elsewhere.org")})
		}()
		w.must(roomserver.Accepted, w.say(bobThere, "meanwhile", w.base))
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		w.complete()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := w.memberState("member1:elsewhere.org"); got != "leave" {
			t.Errorf("who was kicked: got %q, want leave", got)
		}
		w.audit()
	})
}

// A room that everybody here has left is given up. It can be joined again.
func TestPartialJoinLeft(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		ctx := t.Context()
		w.enterPartly()
		if err := w.s.Leave(ctx, as("alice"), w.room.ID, ""); err != nil {
			t.Fatal(err)
		}
		asked := w.remote.requests()
		w.complete()
		if got := w.remote.requests(); got != asked {
			t.Errorf("asked %d times for members of a room that was left", got-asked)
		}
		now, err := w.s.Current(ctx, w.room.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := now.Members(ctx); matrix.CodeOf(err) != matrix.UnableDueToPartialState {
			t.Errorf("members of a room that was given up: got %v", err)
		}
		w.tiePartly()
		said := w.say("member1:elsewhere.org", "nobody hears this", w.base)
		if err := w.s.Adopt(ctx, w.answer(said)); err != nil {
			t.Fatal(err)
		}
		if w.isPartial() {
			t.Error("the room is partial after a join with all members")
		}
		if got := w.memberState("member1:elsewhere.org"); got != "join" {
			t.Errorf("a member after the second join: got %q, want join", got)
		}
	})
}

// countdown is a context that ends when it has been looked at so many times.
type countdown struct {
	context.Context
	end  context.CancelCauseFunc
	left *atomic.Int64
}

func newCountdown(ctx context.Context, looks int) countdown {
	ctx, end := context.WithCancelCause(ctx)
	c := countdown{ctx, end, new(atomic.Int64)}
	c.left.Store(int64(looks))
	return c
}

func (c countdown) look() {
	if c.left.Add(-1) <= 0 {
		c.end(errDeaf)
	}
}

func (c countdown) Done() <-chan struct{} {
	c.look()
	return c.Context.Done()
}

func (c countdown) Err() error {
	c.look()
	return c.Context.Err()
}

// The fetching of members may end anywhere, and goes on where it was.
func TestPartialJoinRestarts(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 25)
		w.enterPartly()
		said := w.say("member1:elsewhere.org", "hello", w.base)
		w.must(roomserver.Accepted, said)
		ends := 0
		for looks := 3; ; looks += 7 {
			w.restart()
			roomserver.SetMemberChunk(w.s, 5)
			err := w.s.CompletePartial(newCountdown(t.Context(), looks), w.room.Num, 0)
			if err == nil {
				break
			}
			if ends++; !errors.Is(err, errDeaf) && !errors.Is(err, context.Canceled) {
				t.Fatalf("ended after %d looks: %v", looks, err)
			}
			w.must(roomserver.Known, said)
		}
		if ends < 10 {
			t.Errorf("it was ended %d times, want in each part", ends)
		}
		if w.isPartial() {
			t.Error("the room is partial")
		}
		w.audit()
		if !w.isShown(said) {
			t.Error("the message is gone")
		}
		now, err := w.s.Current(t.Context(), w.room.ID)
		if err != nil {
			t.Fatal(err)
		}
		if members, err := now.Members(t.Context()); err != nil || len(members) != 27 {
			t.Errorf("members: got %d, %v; want 27", len(members), err)
		}
	})
}
