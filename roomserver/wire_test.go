package roomserver_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A wire makes events as other servers would, and knows the state after each by its own branch alone.
type wire struct {
	t      testing.TB
	s      *roomserver.Server
	db     *storage.DB
	room   rooms.Room
	key    signing.Key
	remote *script
	after  map[matrix.EventID]map[event.Key]*event.Event
	base   *event.Event // the last event of the room when the wire was laid
}

const elsewhere matrix.ServerName = "elsewhere.org"

// lay lays a wire to a new public room of alice, in which bob and carol of elsewhere are.
func lay(t testing.TB, db *storage.DB, version matrix.RoomVersion) *wire {
	t.Helper()
	w := &wire{t: t, db: db, remote: newScript()}
	set := settings(t, db)
	set.Remote = w.remote
	w.key = set.Key
	w.s = roomserver.New(set)
	id := mustCreate(t, w.s, "alice", roomserver.CreateRoom{Preset: "public_chat", Version: version})
	w.tie(id)
	for _, name := range []string{"bob", "carol"} {
		w.must(roomserver.Accepted, w.join(name+":elsewhere.org", w.base))
		w.tie(id)
	}
	return w
}

// tie takes up a room as it now is.
func (w *wire) tie(id matrix.RoomID) {
	w.t.Helper()
	ctx := context.Background()
	room, err := w.s.Room(ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	w.room = room
	if w.after == nil {
		w.after = make(map[matrix.EventID]map[event.Key]*event.Event)
	}
	state, err := w.s.Current(ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := state.All(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	now := make(map[event.Key]*event.Event, len(all))
	for _, ev := range all {
		now[ev.StateID()] = ev.Event
		w.remote.know(ev.Event, nil)
	}
	head, _, err := rooms.HeadOf(ctx, w.db, room.Num)
	if err != nil {
		w.t.Fatal(err)
	}
	last, err := w.s.Events(ctx, room, head.Extremities[len(head.Extremities)-1:])
	if err != nil {
		w.t.Fatal(err)
	}
	w.base = last[0].Event
	w.after[w.base.ID] = now
}

// A proto is an event to be made. Auth events that are not named are those of the state before it.
type proto struct {
	by       string
	typ      string
	stateKey *string
	content  string
	redacts  matrix.EventID
	prevs    []*event.Event
	auth     []matrix.EventID
	depth    int64
	ts       int64 // 0: now
}

func (w *wire) make(p proto) *event.Event {
	w.t.Helper()
	before := make(map[event.Key]*event.Event)
	out := event.Proto{
		Type: p.typ, StateKey: p.stateKey, Sender: user(p.by), RoomID: w.room.ID, Content: []byte(p.content),
		Redacts: p.redacts, Depth: p.depth,
	}
	if out.OriginServerTS = testClock.Now().UnixMilli(); p.ts != 0 {
		out.OriginServerTS = p.ts
	}
	for _, prev := range p.prevs {
		maps.Copy(before, w.after[prev.ID])
		out.PrevEvents = append(out.PrevEvents, prev.ID)
		out.Depth = max(out.Depth, min(prev.Depth+1, w.room.Version.MaxDepth))
	}
	out.AuthEvents = p.auth
	var cited []*event.Event
	if p.auth == nil {
		key := ""
		if p.stateKey != nil {
			key = *p.stateKey
		}
		for _, need := range auth.Needed(w.room.Version, p.typ, key, user(p.by), out.Content) {
			if ev := before[need]; ev != nil {
				out.AuthEvents = append(out.AuthEvents, ev.ID)
				cited = append(cited, ev)
			}
		}
	}
	for _, id := range p.auth {
		cited = append(cited, w.remote.events[id])
	}
	if w.room.Version.References == event.HashedReferences {
		out.ReferenceHashes = make(map[matrix.EventID][32]byte)
		for _, ev := range slices.Concat(cited, p.prevs) {
			out.ReferenceHashes[ev.ID] = ev.ReferenceHash()
		}
	}
	ev, err := event.Build(w.room.Version, out, user(p.by).Server(), w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	if ev.IsState() {
		before[ev.StateID()] = ev
	}
	w.after[ev.ID] = before
	w.remote.know(ev, p.prevs)
	return ev
}

func (w *wire) say(by, text string, prevs ...*event.Event) *event.Event {
	w.t.Helper()
	return w.make(proto{by: by, typ: "m.room.message", content: fmt.Sprintf(`{"body":%q}`, text), prevs: prevs})
}

func (w *wire) topic(by, text string, prevs ...*event.Event) *event.Event {
	w.t.Helper()
	return w.set(by, "m.room.topic", fmt.Sprintf(`{"topic":%q}`, text), prevs...)
}

func (w *wire) set(by, typ, content string, prevs ...*event.Event) *event.Event {
	w.t.Helper()
	key := ""
	return w.make(proto{by: by, typ: typ, stateKey: &key, content: content, prevs: prevs})
}

func (w *wire) member(by, target, membership string, prevs ...*event.Event) *event.Event {
	w.t.Helper()
	key := string(user(target))
	return w.make(proto{by: by, typ: "m.room.member", stateKey: &key, content: fmt.Sprintf(`{"membership":%q}`, membership), prevs: prevs})
}

func (w *wire) join(who string, prevs ...*event.Event) *event.Event {
	w.t.Helper()
	return w.member(who, who, "join", prevs...)
}

func (w *wire) receive(events ...*event.Event) []roomserver.Result {
	return w.s.Receive(context.Background(), elsewhere, w.room.ID, events)
}

func (w *wire) must(want roomserver.Outcome, events ...*event.Event) {
	w.t.Helper()
	for _, got := range w.receive(events...) {
		if got.Outcome != want {
			w.t.Fatalf("%s: got outcome %d (%v), want %d", got.Event, got.Outcome, got.Err, want)
		}
	}
}

// outcomes receives events and returns what became of each, as letters.
func (w *wire) outcomes(events ...*event.Event) string {
	letters := map[roomserver.Outcome]string{
		roomserver.Accepted: "a", roomserver.SoftFailed: "s", roomserver.Rejected: "r", roomserver.Known: "k",
		roomserver.Missing: "m", roomserver.Refused: "x", roomserver.Busy: "b", roomserver.Failed: "f",
	}
	var b strings.Builder
	for _, result := range w.receive(events...) {
		if result.Outcome == roomserver.Failed {
			w.t.Errorf("%s failed: %v", result.Event, result.Err)
		}
		b.WriteString(letters[result.Outcome])
	}
	return b.String()
}

func (w *wire) stored(ev *event.Event) *rooms.Event {
	w.t.Helper()
	got, found, err := rooms.EventByID(context.Background(), w.db, w.room, ev.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if !found {
		return nil
	}
	return got
}

func (w *wire) extremities() []matrix.EventID {
	w.t.Helper()
	ctx := context.Background()
	head, _, err := rooms.HeadOf(ctx, w.db, w.room.Num)
	if err != nil {
		w.t.Fatal(err)
	}
	events, err := w.s.Events(ctx, w.room, head.Extremities)
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []matrix.EventID
	for _, ev := range events {
		ids = append(ids, ev.ID)
	}
	return ids
}

// state returns the text of a field of a state event, from memory; restarted says the same from the database.
func (w *wire) state(typ, key, field string) string {
	w.t.Helper()
	p := &play{t: nil, ctx: context.Background(), server: w.s}
	text, err := p.stateText(w.room.ID, event.Key{Type: typ, StateKey: key}, field)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *wire) memberState(who string) string {
	return w.state("m.room.member", string(user(who)), "membership")
}

// audit holds what is derived from the current state against it.
func (w *wire) audit() {
	w.t.Helper()
	ctx := context.Background()
	state, err := w.s.Current(ctx, w.room.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	members, err := state.Members(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	want := make(map[matrix.UserID]event.Membership)
	var joined, invited int64
	for _, ev := range members {
		want[ev.Target()] = ev.Membership()
		switch ev.Membership() {
		case event.Join:
			joined++
		case event.Invite:
			invited++
		}
	}
	rows, err := rooms.MembersOf(ctx, w.db, w.room.Num)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range rows {
		is, ok := want[m.User]
		if !ok {
			is = event.Leave
		}
		if m.Membership != is {
			w.t.Errorf("%s is %s by the table, %s by the state", m.User, m.Membership, is)
		}
		delete(want, m.User)
	}
	if len(want) > 0 {
		w.t.Errorf("the table lacks %v", want)
	}
	head, _, err := rooms.HeadOf(ctx, w.db, w.room.Num)
	if err != nil || head.Joined != joined || head.Invited != invited || head.Root != state.Root() {
		w.t.Errorf("head %+v, %v: want %d joined, %d invited, root %d", head, err, joined, invited, state.Root())
	}
	root, err := rooms.RootAt(ctx, w.db, w.room.Num, w.db.Position())
	if err != nil || root != state.Root() {
		w.t.Errorf("the last move was to %d, %v; the state is %d", root, err, state.Root())
	}
}

// tellState tells the script the state before an event: that after another, as the wire knows it.
func (w *wire) tellState(ev *event.Event, prev *event.Event) {
	state := slices.Collect(maps.Values(w.after[prev.ID]))
	slices.SortFunc(state, func(a, b *event.Event) int { return strings.Compare(string(a.ID), string(b.ID)) })
	w.remote.mu.Lock()
	defer w.remote.mu.Unlock()
	w.remote.states[ev.ID] = state
	for _, each := range state {
		w.remote.events[each.ID] = each
	}
}
