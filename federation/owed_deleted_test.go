package federation_test

import (
	"context"
	"testing"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/federation/audience"
	"github.com/myelin-chat/myelin/roomserver/collect"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Nodes implements statetree.Loader.
func (l audienceOf) Nodes(ctx context.Context, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	return rooms.StateNodes(ctx, l.db, ids, found)
}

// outOfDate stores a state like another that no row names: that of an event which was read before the state before it was
// found anew.
func (l audienceOf) outOfDate(room rooms.Room, root statetree.NodeID) statetree.NodeID {
	l.t.Helper()
	trees := statetree.New(statetree.Settings{
		Hasher: statetree.NewHasher(l.db.Secret()), Loader: l, CacheBytes: 1 << 20,
		NextID: func() statetree.NodeID { return statetree.NodeID(l.db.NextNumber()) },
	})
	var entries []statetree.Change
	must(l.t, trees.Walk(l.t.Context(), statetree.At(root), statetree.All, func(key statetree.Key, value statetree.Value) error {
		entries = append(entries, statetree.Change{Key: key, Value: value})
		return nil
	}))
	doubt := &rooms.Doubt{RoomNum: room.Num, First: l.db.NextNumber()}
	like, nodes, err := trees.Set(l.t.Context(), statetree.Tree{}, entries)
	must(l.t, err)
	_, err = l.db.Commit(l.t.Context(), rooms.Append{Room: room, Generation: l.db.NextNumber(), Nodes: nodes, Doubt: doubt})
	must(l.t, err)
	return like.Root()
}

// collect deletes what no row names.
func (l audienceOf) collect(root statetree.NodeID) {
	l.t.Helper()
	must(l.t, l.rooms.Collect(l.t.Context()))
	l.pass(collect.Wait)
	must(l.t, l.rooms.Collect(l.t.Context()))
	found := 0
	must(l.t, rooms.StateNodes(l.t.Context(), l.db, []statetree.NodeID{root}, func(statetree.NodeID, []byte) error { found++; return nil }))
	if found != 0 {
		l.t.Fatal("the state that no row names is not deleted")
	}
}

// A state that the audience remembers the servers of, or that an event of long ago had when it was read, may be found anew
// and deleted. Those in the room are told of everything all the same.
func TestOwedByDeletedState(t *testing.T) {
	l := newAudience(t)
	room := l.room("shared")
	l.them().join(room)
	ev := l.stored(room, l.say(room, "hello"))
	was := *ev
	was.StateBefore = l.outOfDate(room, ev.StateBefore)
	owed := func(what string, a *audience.Rooms, ev *rooms.Event) {
		t.Helper()
		if got, err := a.Owed(t.Context(), ev); err != nil || len(got) != 2 {
			t.Errorf("%s: owed to %v, %v, want us and them", what, got, err)
		}
	}
	owed("while it is there", l.audience, &was)
	l.collect(was.StateBefore)
	owed("the next message", l.audience, l.stored(room, l.say(room, "on")))
	owed("an event that was read before", l.audience, &was)
	owed("an event that was read before, of which nothing is remembered", audience.NewRooms(l.db, l.rooms), &was)
}
