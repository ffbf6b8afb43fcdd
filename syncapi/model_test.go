package syncapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/url"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// client is a client as the specification wants it: it applies what sync tells, and fills the gaps.
type client struct {
	user    matrix.UserID
	device  string
	filter  string       // JSON
	parsed  *view.Filter // of filter
	after   bool         // use_state_after
	token   string       // of the last answer that it took
	rooms   map[matrix.RoomID]*clientRoom
	data    map[string]string
	pages   int // events of a page that fills a gap
	history int // answers taken
}

type clientRoom struct {
	section  string
	timeline []matrix.EventID
	state    map[event.Key]matrix.EventID
	receipts map[readBy]matrix.EventID
	data     map[string]string
	typing   []matrix.UserID
}

type readBy struct {
	user matrix.UserID
	kind string
}

func (c *client) lazy() bool { return c.parsed.Room.State.LazyLoadMembers }

// copy returns the client as it is, to go back to.
func (c *client) copy() *client {
	old := *c
	old.data, old.rooms = maps.Clone(c.data), map[matrix.RoomID]*clientRoom{}
	for id, r := range c.rooms {
		kept := *r
		kept.timeline = slices.Clone(r.timeline)
		kept.state, kept.receipts, kept.data = maps.Clone(r.state), maps.Clone(r.receipts), maps.Clone(r.data)
		old.rooms[id] = &kept
	}
	return &old
}

// ask makes one request.
func (w *world) askAs(t failer, c *client, q query) answer {
	t.Helper()
	values := url.Values{"access_token": {string(c.user) + "/" + c.device}, "filter": {c.filter}}
	if c.token != "" {
		values.Set("since", c.token)
	}
	if c.after {
		values.Set("use_state_after", "true")
	}
	for k, v := range q {
		values.Set(k, v)
	}
	recorder := httptest.NewRecorder()
	w.mu.Lock()
	handler := w.handler
	w.mu.Unlock()
	handler.ServeHTTP(recorder, httptest.NewRequest("GET", "/_matrix/client/v3/sync?"+values.Encode(), nil))
	var a answer
	if err := json.Unmarshal(recorder.Body.Bytes(), &a); err != nil || recorder.Code != 200 {
		t.Fatalf("sync of %s: status %d, %v: %s", c.user, recorder.Code, err, recorder.Body)
	}
	return a
}

// take applies an answer.
func (c *client) take(t failer, w *world, a answer) {
	t.Helper()
	token, err := view.ParseSyncToken(a.NextBatch)
	if err != nil {
		t.Fatalf("next_batch %q: %v", a.NextBatch, err)
	}
	for id, r := range a.Rooms.Join {
		c.takeRoom(t, w, told{id, r, "join", token.Position})
	}
	for id, r := range a.Rooms.Leave {
		c.takeRoom(t, w, told{id, r, "leave", token.Position})
	}
	for id := range a.Rooms.Invite {
		c.room(id).section = "invite"
	}
	for id := range a.Rooms.Knock {
		c.room(id).section = "knock"
	}
	for _, e := range a.AccountData.Events {
		c.data[e.Type] = string(e.Content)
	}
	c.token = a.NextBatch
	c.history++
}

func (c *client) room(id matrix.RoomID) *clientRoom {
	r := c.rooms[id]
	if r == nil {
		r = &clientRoom{
			state: map[event.Key]matrix.EventID{}, receipts: map[readBy]matrix.EventID{}, data: map[string]string{},
		}
		c.rooms[id] = r
	}
	return r
}

// told is what an answer says of one room.
type told struct {
	id matrix.RoomID
	roomAnswer
	section string
	upTo    storage.Position // of the answer
}

func (c *client) takeRoom(t failer, w *world, in told) {
	t.Helper()
	r := c.room(in.id)
	if in.section == "join" && r.section != "join" && c.lazy() {
		maps.DeleteFunc(r.state, func(k event.Key, _ matrix.EventID) bool { return k.Type == event.TypeMember })
	}
	r.section = in.section
	log := w.pastUpTo(t, in.id, in.upTo)
	log.mayAllSee(t, c.user, in.Timeline.Events)
	c.takeState(t, r, in.roomAnswer)
	c.takeTimeline(t, w, log, in)
	for _, e := range in.AccountData.Events {
		r.data[e.Type] = string(e.Content)
	}
	for _, e := range in.Ephemeral.Events {
		r.takeEphemeral(t, e)
	}
}

// takeState applies the state sections, and the timeline where they do not replace it.
func (c *client) takeState(t failer, r *clientRoom, in roomAnswer) {
	t.Helper()
	if (in.StateAfter != nil) != c.after || in.State != nil && c.after {
		t.Fatalf("use_state_after %v: got state %v and state_after %v", c.after, in.State, in.StateAfter)
	}
	listed := map[event.Key]bool{}
	set := func(e clientEvent) { r.state[event.Key{Type: e.Type, StateKey: *e.StateKey}] = e.ID }
	for _, part := range []*events{in.State, in.StateAfter} {
		if part == nil {
			continue
		}
		for _, e := range part.Events {
			key := event.Key{Type: e.Type, StateKey: *e.StateKey}
			if listed[key] {
				t.Fatalf("the state has %v twice", key)
			}
			listed[key] = true
			set(e)
		}
	}
	for _, e := range in.Timeline.Events {
		if e.StateKey != nil && !c.after {
			set(e)
		}
	}
	for _, e := range in.Timeline.Events {
		if _, known := r.state[event.Key{Type: event.TypeMember, StateKey: string(e.Sender)}]; !known && r.section == "join" {
			t.Fatalf("%s is shown %s by %s, whose member it does not know", c.user, e.ID, e.Sender)
		}
	}
}

// takeTimeline adds the events to those that are known, and fills the gap before them.
func (c *client) takeTimeline(t failer, w *world, log past, in told) {
	t.Helper()
	r := c.room(in.id)
	until, _ := log.lastStay(c.user)
	var run []matrix.EventID
	for _, e := range in.Timeline.Events {
		// What became of its membership after it left comes alone, and is no part of what it saw.
		if r.section == "join" || log.at(e.ID) <= until {
			run = append(run, e.ID)
		}
	}
	known := func() int {
		return slices.IndexFunc(run, func(e matrix.EventID) bool { return slices.Contains(r.timeline, e) })
	}
	if in.Timeline.Limited {
		run = w.fill(t, c, in, run, func() bool { return known() >= 0 })
	}
	// fill hands over a longer run, so look again.
	if at := known(); at >= 0 {
		if !in.Timeline.Limited {
			t.Fatalf("%s is told of %s again", c.user, run[at])
		}
		r.timeline = r.timeline[:slices.Index(r.timeline, run[at])]
		run = run[at:]
	}
	r.timeline = append(r.timeline, run...)
}

// fill pages backwards until it meets what is known, and returns all from there on.
func (w *world) fill(t failer, c *client, in told, run []matrix.EventID, met func() bool) []matrix.EventID {
	t.Helper()
	id := in.id
	known := c.room(id).timeline
	gap, err := view.ParseGap(in.Timeline.PrevBatch)
	if err != nil {
		t.Fatalf("prev_batch %q: %v", in.Timeline.PrevBatch, err)
	}
	var v *view.Viewer
	err = w.db.Snapshot(ctx, func(q storage.Querier) (err error) { // or its membership and the past of that are of two moments
		v, err = view.Open(ctx, w.rooms, q, who(c.user), id)
		return err
	})
	if err != nil {
		t.Fatalf("open %s: %v", id, err)
	}
	sight, err := v.Standing(ctx)
	if matrix.CodeOf(err) == matrix.Forbidden {
		c.room(id).timeline = nil // it has forgotten the room, and so the gap stays until it comes back
		return nil
	}
	if met() {
		return run
	}
	for {
		page, err := v.Messages(ctx, w.db, view.PageQuery{
			From: gap, Backward: true, Limit: c.pages, Filter: &c.parsed.Room.Timeline,
		}.Within(sight))
		if err != nil {
			t.Fatalf("messages of %s: %v", id, err)
		}
		for _, e := range page.Events {
			w.past(t, id).mayAllSee(t, c.user, []clientEvent{{ID: e.ID}})
			run = append([]matrix.EventID{e.ID}, run...)
			if slices.Contains(known, e.ID) {
				return run
			}
		}
		if gap = page.End; !page.More {
			return run
		}
	}
}

func (r *clientRoom) takeEphemeral(t failer, e clientEvent) {
	t.Helper()
	if e.Type == "m.typing" {
		var in struct {
			Users []matrix.UserID `json:"user_ids"`
		}
		if err := json.Unmarshal(e.Content, &in); err != nil {
			t.Fatalf("typing: %v", err)
		}
		r.typing = in.Users
		return
	}
	var in map[matrix.EventID]map[string]map[matrix.UserID]any
	if err := json.Unmarshal(e.Content, &in); err != nil {
		t.Fatalf("receipt: %v", err)
	}
	for id, byKind := range in {
		for kind, users := range byKind {
			for u := range users {
				r.receipts[readBy{u, kind}] = id
			}
		}
	}
}

// check compares what a client that is up to date believes with the truth.
func (w *world) check(t failer, c *client, all []matrix.RoomID) {
	t.Helper()
	for _, id := range all {
		room, err := w.rooms.Room(ctx, id)
		if err != nil {
			t.Fatalf("room %s: %v", id, err)
		}
		m, known, err := rooms.MembershipOf(ctx, w.db, room.Num, c.user)
		if err != nil {
			t.Fatalf("membership: %v", err)
		}
		section := ""
		if r := c.rooms[id]; r != nil {
			section = r.section
		}
		switch m.Membership {
		case event.Join, event.Invite, event.Knock:
			if section != string(m.Membership) {
				t.Fatalf("%s: %s is in section %q, want %q", c.user, id, section, m.Membership)
			}
		default:
			if known && section != "" && section != "leave" || !known && section != "" {
				t.Fatalf("%s: %s is in section %q, want it left (known %v)", c.user, id, section, known)
			}
		}
		if m.Membership == event.Join {
			w.checkJoined(t, c, room)
		}
		if section == "leave" || section == "join" {
			w.checkTimeline(t, c, room, m.Forgotten)
		}
	}
}

func (w *world) checkTimeline(t failer, c *client, room rooms.Room, forgotten bool) {
	t.Helper()
	log := w.past(t, room.ID)
	visible := log.visible(c.user)
	until, stayed := log.lastStay(c.user)
	if !stayed || forgotten {
		return
	}
	var wanted, got []string
	for _, e := range log {
		if until != 0 && e.Position > until {
			continue
		}
		if visible[e.ID] && c.parsed.Room.Timeline.WantsEvent(e.Event) {
			wanted = append(wanted, string(e.ID)+" "+e.Type)
		}
	}
	for _, id := range c.rooms[room.ID].timeline {
		if i := slices.IndexFunc(log, func(e *rooms.Event) bool { return e.ID == id }); until == 0 || log[i].Position <= until {
			got = append(got, string(id)+" "+log[i].Type)
		}
	}
	if !slices.Equal(got, wanted) {
		for len(got) > 0 && len(wanted) > 0 && got[0] == wanted[0] {
			got, wanted = got[1:], wanted[1:]
		}
		t.Fatalf("end of the timeline of %s for %s/%s (%s):\ngot  %q\nwant %q", room.ID, c.user, c.device, c.filter, got, wanted)
	}
}

func (w *world) checkJoined(t failer, c *client, room rooms.Room) {
	t.Helper()
	r := c.rooms[room.ID]
	current, err := w.rooms.Current(ctx, room.ID)
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	all, err := current.All(ctx)
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	for _, e := range all {
		got, known := r.state[e.StateID()]
		if e.Type == event.TypeMember && c.lazy() && !known {
			continue
		}
		if got != e.ID {
			t.Fatalf("state of %s for %s/%s (%s, after %v): %v is %q, want %q", room.ID, c.user, c.device, c.filter, c.after, e.StateID(), got, e.ID)
		}
	}
	if len(r.state) > len(all) {
		t.Fatalf("state of %s: got %d events, want %d", room.ID, len(r.state), len(all))
	}
	receipts, err := rooms.Receipts(ctx, w.db, room.Num, storage.Span{UpTo: w.db.Position()})
	if err != nil {
		t.Fatalf("receipts: %v", err)
	}
	wanted := map[readBy]matrix.EventID{}
	for _, v := range receipts {
		if v.Type == "m.read" || v.User == c.user {
			wanted[readBy{v.User, v.Type}] = v.Event
		}
	}
	if !maps.Equal(r.receipts, wanted) {
		t.Fatalf("receipts in %s for %s: got %v, want %v", room.ID, c.user, r.receipts, wanted)
	}
	typing, _ := w.eph.Typing(room.ID)
	if !slices.Equal(r.typing, typing) {
		t.Fatalf("typing in %s for %s: got %v, want %v", room.ID, c.user, r.typing, typing)
	}
}

// checkData compares account data with what was set last.
func (c *client) checkData(t failer, global map[string]string, inRooms map[matrix.RoomID]map[string]string) {
	t.Helper()
	got := maps.Clone(c.data)
	delete(got, "m.push_rules")
	if !maps.Equal(got, global) {
		t.Fatalf("account data of %s: got %v, want %v", c.user, got, global)
	}
	for id, r := range c.rooms {
		if r.section == "join" && !maps.Equal(r.data, inRooms[id]) {
			t.Fatalf("account data of %s in %s: got %v, want %v", c.user, id, r.data, inRooms[id])
		}
	}
}

// newClient makes a client of a kind: the bits choose how it syncs.
func newClient(u matrix.UserID, device string, kind, limit int) *client {
	state, timeline := "", fmt.Sprintf(`"limit":%d`, limit)
	if kind&1 != 0 {
		state = `"lazy_load_members":true`
	}
	if kind&1 != 0 && kind&2 != 0 {
		state += `,"include_redundant_members":true`
	}
	if kind&8 != 0 {
		timeline += `,"not_types":["m.room.topic","m.room.member"]`
	}
	c := &client{
		user: u, device: device, after: kind&4 != 0, pages: 1 + limit%5,
		filter: fmt.Sprintf(`{"room":{"state":{%s},"timeline":{%s}}}`, state, timeline),
		rooms:  map[matrix.RoomID]*clientRoom{}, data: map[string]string{},
	}
	var err error
	if c.parsed, err = view.ParseFilter([]byte(c.filter)); err != nil {
		panic(err)
	}
	return c
}
