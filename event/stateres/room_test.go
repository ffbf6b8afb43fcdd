package stateres_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/stateres/oracle"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

const creator = "@alice:a.org"

// failer is what testing.TB and *rapid.T have in common.
type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// room is a room under construction, as one server knows it: all its state
// events, those that were rejected, and the state after each.
type room struct {
	t      failer
	known  oracle.Room
	id     matrix.RoomID
	order  []*event.Event // as they came
	after  map[*event.Event]oracle.State
	trees  *statetree.Store
	graph  *stateres.Graph
	nums   map[matrix.EventID]statetree.Value
	byNum  map[statetree.Value]*event.Event
	nodes  memory
	hasher statetree.Hasher
	loads  int // events asked for, by Events

	ascending bool // numbers are as they came
}

// memory is a database of tree nodes.
type memory map[statetree.NodeID][]byte

func (m memory) Nodes(_ context.Context, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	for _, id := range ids {
		if data, ok := m[id]; ok {
			if err := found(id, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// spec is what an event of a test is made of.
type spec struct {
	typ, stateKey, sender string
	content               string
	prev                  []*event.Event
	auth                  []*event.Event
	ts, depth             int64
	redacted              bool // it is known in its redacted form only
}

// newRoom makes a room with a create event alone.
func newRoom(t failer, v *event.Version, content string) *room {
	var last statetree.NodeID
	r := &room{
		t: t, id: "!room:a.org", after: make(map[*event.Event]oracle.State), graph: stateres.NewGraph(),
		nums: make(map[matrix.EventID]statetree.Value), byNum: make(map[statetree.Value]*event.Event), nodes: make(memory),
		hasher: statetree.NewHasher([16]byte{1, 2, 3}),
	}
	r.trees = statetree.New(statetree.Settings{
		Hasher: r.hasher, Loader: r.nodes, CacheBytes: 64 << 20,
		NextID: func() statetree.NodeID { last++; return last },
	})
	r.known = oracle.Room{Version: v, Events: make(map[matrix.EventID]*event.Event), Rejected: make(map[matrix.EventID]bool)}
	create := r.event(spec{typ: event.TypeCreate, sender: creator, content: content, ts: 1})
	if v.RoomIDs == event.CreateHashRoomIDs {
		r.id = create.RoomID
	}
	r.known.Create = create
	r.accept(create, oracle.State{})
	return r
}

// event makes an event, without the checks of event.Parse, and without adding
// it to the room. Its ID is like a hash of its place in the order.
func (r *room) event(s spec) *event.Event {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], bits.Reverse64(uint64(len(r.nums))+1)*0x9e3779b97f4a7c15)
	id := matrix.EventID("$" + strings.Repeat("x", 32) + base64.RawURLEncoding.EncodeToString(seed[:]))
	v := r.known.Version
	if v.EventIDs == event.ChosenEventIDs {
		id += ":a.org"
	}
	members := fmt.Sprintf(`"auth_events":%s,"content":%s,"depth":%d,"origin_server_ts":%d,"prev_events":%s,"sender":%q,`+
		`"signatures":{"a.org":{"ed25519:k":"s"},"b.org":{"ed25519:k":"s"}},"state_key":%q,"type":%q`,
		r.references(s.auth), s.content, s.depth, s.ts, r.references(s.prev), s.sender, s.stateKey, s.typ)
	if s.typ != event.TypeCreate || v.RoomIDs != event.CreateHashRoomIDs {
		members += fmt.Sprintf(`,"room_id":%q`, r.id)
	}
	obj, err := canonical.JSON([]byte("{"+members+"}"), v.JSON)
	if err != nil {
		r.t.Fatalf("{%s}: %v", members, err)
	}
	ev, err := event.Load(v, id, obj)
	if err == nil && s.redacted {
		ev, err = event.Load(v, id, ev.RedactedJSON())
	}
	if err != nil {
		r.t.Fatalf("%s: %v", obj, err)
	}
	return ev
}

func (r *room) references(events []*event.Event) string {
	var list []string
	for _, ev := range events {
		if r.known.Version.References == event.HashedReferences {
			list = append(list, fmt.Sprintf(`[%q,{}]`, ev.ID))
		} else {
			list = append(list, fmt.Sprintf("%q", ev.ID))
		}
	}
	return "[" + strings.Join(list, ",") + "]"
}

// authEventsFor selects auth events from a state.
func (r *room) authEventsFor(s spec, state oracle.State) []*event.Event {
	content, err := canonical.JSON([]byte(s.content), canonical.Lenient)
	if err != nil {
		r.t.Fatalf("%s: %v", s.content, err)
	}
	var events []*event.Event
	for _, k := range auth.Needed(r.known.Version, s.typ, s.stateKey, matrix.UserID(s.sender), content) {
		if ev := state[k]; ev != nil {
			events = append(events, ev)
		}
	}
	return events
}

// receive adds an event to the room if the rules allow it: against its auth
// events and against the state before it. If not it is known as rejected.
func (r *room) receive(ev *event.Event, before oracle.State) bool {
	if r.permits(ev, before) {
		r.accept(ev, before)
		return true
	}
	r.reject(ev, before)
	return false
}

func (r *room) permits(ev *event.Event, before oracle.State) bool {
	var events []*event.Event
	for _, id := range ev.AuthEvents {
		events = append(events, r.known.Events[id])
	}
	rejected := func(a *event.Event) bool { return r.known.Rejected[a.ID] }
	return auth.CheckAuthEvents(ev, events, rejected) == nil && r.allows(ev, before) &&
		r.allows(ev, stateOf(append(events, r.known.Create)...))
}

func stateOf(events ...*event.Event) oracle.State {
	s := make(oracle.State)
	for _, ev := range events {
		s[ev.StateID()] = ev
	}
	return s
}

func (r *room) allows(ev *event.Event, state oracle.State) bool {
	return auth.Check(ev, func(k event.Key) *event.Event { return state[k] }) == nil
}

func (r *room) accept(ev *event.Event, before oracle.State) {
	r.enter(ev)
	state := maps.Clone(before)
	state[ev.StateID()] = ev
	r.after[ev] = state
}

// enter makes an event known, and part of the auth graph.
func (r *room) enter(ev *event.Event) {
	r.know(ev)
	var nums []statetree.Value
	for _, id := range ev.AuthEvents {
		nums = append(nums, r.nums[id])
	}
	if err := r.graph.Append(stateres.Ref{Num: r.nums[ev.ID], Key: r.hasher.Key(ev.StateID())}, nums); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) reject(ev *event.Event, before oracle.State) {
	r.know(ev)
	r.known.Rejected[ev.ID] = true
	r.after[ev] = before
}

// know files an event under a number; numbers have no order, unless the room
// says that they ascend as those of a server do.
func (r *room) know(ev *event.Event) {
	r.order = append(r.order, ev)
	num := statetree.Value(len(r.order))
	if !r.ascending {
		num = num*0x9e3779b1&0xffffffff + 1
	}
	r.nums[ev.ID], r.byNum[num] = num, ev
	r.known.Events[ev.ID] = ev
}

// Events implements stateres.Loader.
func (r *room) Events(_ context.Context, nums []statetree.Value) ([]*event.Event, error) {
	if len(nums) > stateres.MaxLoad {
		return nil, fmt.Errorf("%d events are asked for at once", len(nums))
	}
	r.loads += len(nums)
	events := make([]*event.Event, len(nums))
	for i, num := range nums {
		if events[i] = r.byNum[num]; events[i] == nil {
			return nil, fmt.Errorf("there is no event %d", num)
		}
	}
	return events, nil
}

// tree returns a state as a tree.
func (r *room) tree(s oracle.State) statetree.Tree {
	var changes []statetree.Change
	for k, ev := range s {
		changes = append(changes, statetree.Change{Key: r.hasher.Key(k), Value: r.nums[ev.ID]})
	}
	return r.change(statetree.Tree{}, changes)
}

func (r *room) change(t statetree.Tree, changes []statetree.Change) statetree.Tree {
	t, nodes, err := r.trees.Set(context.Background(), t, changes)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range nodes {
		r.nodes[n.ID] = n.Data
	}
	r.trees.Stored(nodes)
	return statetree.At(t.Root())
}

// input is the room as Resolve wants it.
func (r *room) input(graph stateres.AuthGraph) stateres.Room {
	return stateres.Room{
		ID: r.id, Version: r.known.Version, Create: r.nums[r.known.Create.ID],
		Trees: r.trees, Graph: graph, Loader: r,
	}
}

// resolve merges states by stateres.
func (r *room) resolve(graph stateres.AuthGraph, states []oracle.State) (oracle.State, stateres.Result) {
	var trees []statetree.Tree
	for _, s := range states {
		trees = append(trees, r.tree(s))
	}
	res, err := stateres.Resolve(context.Background(), r.input(graph), trees)
	if err != nil {
		r.t.Fatalf("Resolve: %v", err)
	}
	merged := make(oracle.State)
	err = r.trees.Walk(context.Background(), r.change(res.Base, res.Changes), statetree.All, func(_ statetree.Key, v statetree.Value) error {
		ev := r.byNum[v]
		merged[ev.StateID()] = ev
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return merged, res
}

// compare holds stateres against the oracle, and returns the merged state.
func (r *room) compare(graph stateres.AuthGraph, states []oracle.State) oracle.State {
	want := r.known.Resolve(states...)
	got, res := r.resolve(graph, states)
	if !maps.Equal(got, want) {
		r.t.Fatalf("version %s, %d states of a room of %d events, %d conflicts:\n%s",
			r.known.Version.ID, len(states), len(r.order), res.Conflicts, r.differences(got, want))
	}
	if !slices.IsSortedFunc(res.Changes, func(a, b statetree.Change) int { return cmpKeys(a.Key, b.Key) }) {
		r.t.Fatalf("changes are not in order: %v", res.Changes)
	}
	return want
}

func cmpKeys(a, b statetree.Key) int {
	if a < b {
		return -1
	}
	return 1
}

func (r *room) differences(got, want oracle.State) string {
	var lines []string
	for k, ev := range want {
		if got[k] != ev {
			lines = append(lines, fmt.Sprintf("%v: got %s, want %s", k, name(got[k]), name(ev)))
		}
	}
	for k, ev := range got {
		if want[k] == nil {
			lines = append(lines, fmt.Sprintf("%v: got %s, want none", k, name(ev)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func name(ev *event.Event) string {
	if ev == nil {
		return "none"
	}
	return fmt.Sprintf("%s by %s: %s", ev.ID, ev.Sender, ev.Content)
}
