package stateres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/stateres/oracle"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
)

// stateOfTree reads a tree.
func (r *room) stateOfTree(t statetree.Tree) oracle.State {
	s := make(oracle.State)
	err := r.trees.Walk(context.Background(), t, statetree.All, func(_ statetree.Key, v statetree.Value) error {
		s[r.byNum[v].StateID()] = r.byNum[v]
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// Expensive rooms are merged rightly, too.
func TestShapesAgainstOracle(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"1", "11", "12"} {
		for _, shape := range shapes {
			t.Run(fmt.Sprintf("v%s/%s", version, shape.name), func(t *testing.T) {
				b := newBig(t, version)
				n := 120
				if strings.HasPrefix(shape.name, "soft-failed") {
					n = 400 // so many keys are looked up that the tree is read whole
				}
				var states []oracle.State
				for _, tree := range shape.make(b, n) {
					states = append(states, b.stateOfTree(tree))
				}
				b.compare(b.room.graph, states)
			})
		}
	}
}

// What the rules do not look at is not kept, and what they look at is kept
// within bounds, and read again.
func TestLargeEvents(t *testing.T) {
	const events = 700
	text := strings.Repeat("x", 60_000)
	topic := func(b *big, i int) {
		b.add(spec{typ: "x.long", stateKey: fmt.Sprint(i), sender: creator, content: fmt.Sprintf(`{"text":%q}`, text)})
	}
	member := func(b *big, i int) {
		content := fmt.Sprintf(`{"displayname":%q,"membership":"join"}`, text)
		b.add(spec{typ: event.TypeMember, stateKey: user(i), sender: user(i), content: content})
	}
	for _, test := range []struct {
		name            string
		add             func(b *big, i int)
		atLeast, atMost int // are loaded
	}{
		{"a text", topic, events, events + 10},
		{"a member", member, events + 100, 3 * events},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBig(t, "11")
			b.trunk = b.tree(b.state)
			half := func() {
				for i := range events / 2 {
					test.add(b, i)
				}
			}
			states := []statetree.Tree{b.fork(half), b.fork(half)}
			b.loads = 0
			res := b.merge(states)
			if len(res.Changes) != 0 || res.Conflicts != events/2 {
				t.Errorf("got %d changes of %d conflicts, want none of %d", len(res.Changes), res.Conflicts, events/2)
			}
			if b.loads < test.atLeast || b.loads > test.atMost {
				t.Errorf("%d events were loaded for %d, want %d to %d", b.loads, events, test.atLeast, test.atMost)
			}
		})
	}
}

func TestNothingToMerge(t *testing.T) {
	b := newBig(t, "12")
	tree := b.tree(b.state)
	again := b.tree(b.state) // of other nodes
	for name, states := range map[string][]statetree.Tree{"one": {tree}, "the same": {tree, again, tree}} {
		b.loads = 0
		res := b.merge(states)
		if res.Base.Root() != tree.Root() || len(res.Changes) != 0 || res.Conflicts != 0 || b.loads != 0 {
			t.Errorf("%s: got %+v and %d loads, want the state itself", name, res, b.loads)
		}
	}
	if res := b.merge(nil); res.Base.Root() != 0 || len(res.Changes) != 0 {
		t.Errorf("no states: got %+v, want nothing", res)
	}
}

func TestTooManyStates(t *testing.T) {
	b := newBig(t, "11")
	b.trunk = b.tree(b.state)
	var states []statetree.Tree
	for i := range stateres.MaxStates + 1 {
		states = append(states, b.fork(func() { b.topic(creator, "", i) }))
	}
	res := b.merge(states[1:])
	last := states[stateres.MaxStates]
	if len(res.Changes) != 0 || res.Base.Root() != last.Root() {
		t.Errorf("64 states: got %+v, want that of the latest topic", res)
	}
	_, err := stateres.Resolve(t.Context(), b.input(b.room.graph), states)
	if !errors.Is(err, stateres.ErrTooManyStates) {
		t.Errorf("65 states: got %v, want ErrTooManyStates", err)
	}
	if _, err := stateres.Resolve(t.Context(), b.input(b.room.graph), append(states[:20:20], states[:20]...)); err != nil {
		t.Errorf("20 states twice: %v", err)
	}
}

// What the graph does not have is named.
func TestDropped(t *testing.T) {
	b := newBig(t, "11")
	bad := b.event(spec{typ: "m.room.topic", sender: creator, content: `{}`, auth: b.order[:2]})
	b.reject(bad, nil)
	good := b.tree(b.state)
	res := b.merge([]statetree.Tree{good, b.tree(withEvent(b.state, bad))})
	if len(res.Dropped) != 1 || res.Dropped[0] != b.nums[bad.ID] || res.Base.Root() != good.Root() || len(res.Changes) != 0 {
		t.Errorf("got %+v, want event %d dropped", res, b.nums[bad.ID])
	}
}

func withEvent(s oracle.State, ev *event.Event) oracle.State {
	s = maps.Clone(s)
	s[ev.StateID()] = ev
	return s
}

// broken is a graph and a loader that fail, or tell something else than the
// states, after some calls.
type broken struct {
	*room
	calls  int
	err    error
	events func([]*event.Event)
	node   func(*stateres.Node)
}

func (b *broken) fails() error {
	if b.calls--; b.calls < 0 {
		return b.err
	}
	return nil
}

func (b *broken) Node(ctx context.Context, num statetree.Value, buf []stateres.Ref) (stateres.Node, bool, error) {
	if err := b.fails(); err != nil {
		return stateres.Node{}, false, err
	}
	n, found, err := b.graph.Node(ctx, num, buf)
	if b.node != nil {
		b.node(&n)
	}
	return n, found, err
}

func (b *broken) Citing(ctx context.Context, num statetree.Value, from stateres.Cursor, page []stateres.Ref) (int, stateres.Cursor, error) {
	if err := b.fails(); err != nil {
		return 0, 0, err
	}
	return b.graph.Citing(ctx, num, from, page)
}

func (b *broken) Events(ctx context.Context, nums []statetree.Value) ([]*event.Event, error) {
	if err := b.fails(); err != nil {
		return nil, err
	}
	events, err := b.room.Events(ctx, nums)
	if b.events != nil {
		b.events(events)
	}
	return events, err
}

// Whatever fails, at whatever step, comes back as an error.
func TestFailures(t *testing.T) {
	errDisk := errors.New("the disk is gone")
	for _, version := range []matrix.RoomVersion{"1", "11", "12"} {
		b := grown(t, version, 30, 3, 2)
		states := []statetree.Tree{b.fork(func() { b.changes(0, 5) }), b.fork(func() { b.changes(1, 5) })}
		for calls := 0; ; calls++ {
			f := &broken{room: b.room, calls: calls, err: errDisk}
			room := b.input(f)
			room.Loader = f
			_, err := stateres.Resolve(t.Context(), room, states)
			if err == nil && calls > 20 {
				break
			}
			if !errors.Is(err, errDisk) {
				t.Fatalf("version %s, after %d calls: got %v, want the loader's error", version, calls, err)
			}
		}
	}
}

func TestMismatch(t *testing.T) {
	other := newBig(t, "11")
	other.room.id = "!other:a.org"
	foreign := other.topic(creator, "", 0)
	topic := func(typ string) *event.Event {
		b := newBig(t, "11")
		return b.add(spec{typ: typ, sender: creator, content: `{}`})
	}
	tests := []struct {
		name   string
		events func([]*event.Event)
		node   func(*stateres.Node)
	}{
		{"an event of another room", func(e []*event.Event) { e[0] = foreign }, nil},
		{"an event of another type", func(e []*event.Event) { e[0] = topic("m.room.name") }, nil},
		{"another key in the graph", nil, func(n *stateres.Node) { n.Key++ }},
		{"no state event", func(e []*event.Event) { message := *e[0]; message.StateKey = nil; e[0] = &message }, nil},
	}
	for _, test := range tests {
		for _, version := range []matrix.RoomVersion{"1", "11", "12"} {
			b := newBig(t, version)
			states := b.twoTopics()
			f := &broken{room: b.room, calls: 1 << 30, events: test.events, node: test.node}
			room := b.input(f)
			room.Loader = f
			_, err := stateres.Resolve(t.Context(), room, states)
			if !errors.Is(err, stateres.ErrMismatch) {
				t.Errorf("version %s, %s: got %v, want ErrMismatch", version, test.name, err)
			}
		}
	}
}
