package rooms

import (
	"errors"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
)

// doubts are the rooms in doubt.
func (w *world) doubts() []Doubted {
	w.t.Helper()
	all, err := DoubtedRooms(ctx, w.db, 0, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// A room is noted when all doubts about it are, and is in no doubt while it is partial, or if it was given up then.
func TestDoubts(t *testing.T) {
	each(t, func(w *world) {
		one, two := w.room("one"), w.room("two")
		for i, room := range []Room{one, two, two} {
			w.commit(Append{Room: room, NewRoom: i < 2, Generation: w.db.NextNumber(), Doubt: &Doubt{room.Num, int64(100 + i)}})
		}
		w.commit(EndNotes{RoomNum: two.Num, UpTo: 101, AtMS: 7})
		want := []Doubted{{one.Num, 100, false, 0}, {two.Num, 101, false, 7}}
		if got := w.doubts(); !slices.Equal(got, want) {
			w.t.Errorf("one of two is noted: got %v, want %v", got, want)
		}
		w.commit(EndNotes{RoomNum: two.Num, UpTo: 200, AtMS: 9})
		want[1] = Doubted{two.Num, 101, true, 9}
		if got := w.doubts(); !slices.Equal(got, want) {
			w.t.Errorf("both are noted: got %v, want %v", got, want)
		}
		hole := statetree.Hole(w.db.NextNumber())
		w.commit(Append{Room: one, Generation: w.db.NextNumber(), Partial: &PartialJoin{RoomNum: one.Num, Hole: hole}})
		if got := w.doubts(); !slices.Equal(got, want[1:]) {
			w.t.Errorf("one is partial: got %v, want %v", got, want[1:])
		}
		w.commit(Append{Room: one, Generation: w.db.NextNumber(), Whole: &EndOfPartial{Hole: hole, At: 1}})
		if got := w.doubts(); !slices.Equal(got, want[1:]) {
			w.t.Errorf("one was given up: got %v, want %v", got, want[1:])
		}
		w.commit(FillHole{Join: PartialJoin{Hole: hole, Members: 5}})
		w.commit(Append{Room: two, Generation: w.db.NextNumber(), Doubt: &Doubt{two.Num, 300}})
		w.commit(EndDoubts{RoomNum: two.Num})
		want[1] = Doubted{two.Num, 300, false, 0}
		if got := w.doubts(); !slices.Equal(got, want) {
			w.t.Errorf("one is whole, and two has a new doubt: got %v, want %v", got, want)
		}
		w.commit(storage.All{EndDoubts{RoomNum: one.Num, UpTo: 99}, EndDoubts{RoomNum: two.Num, UpTo: 300}})
		if got := w.doubts(); !slices.Equal(got, want[:1]) {
			w.t.Errorf("doubts up to a number were ended: got %v, want %v", got, want[:1])
		}
	})
}

// What names nodes ends the doubt about them, but comes too late once they were noted.
func TestDoubtIsNamed(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		w.commit(Append{Room: room, NewRoom: true})
		hole := statetree.Hole(w.db.NextNumber())
		for _, partial := range []*PartialJoin{nil, {RoomNum: room.Num, Hole: hole}} {
			doubt := &Doubt{room.Num, w.db.NextNumber()}
			names := func() error {
				_, err := w.db.Commit(ctx, Append{Room: room, Generation: w.db.NextNumber(), Named: doubt, Partial: partial})
				return err
			}
			if err := names(); !errors.Is(err, errNoted) {
				w.t.Errorf("there is no doubt: got %v, want %v", err, errNoted)
			}
			for _, d := range []*Doubt{doubt, {room.Num, doubt.First + 1}} {
				w.commit(Append{Room: room, Generation: w.db.NextNumber(), Doubt: d})
			}
			w.commit(EndNotes{RoomNum: room.Num, UpTo: doubt.First, AtMS: 1})
			if err := names(); !errors.Is(err, errNoted) {
				w.t.Errorf("the nodes are noted: got %v, want %v", err, errNoted)
			}
			doubt.First++
			if err := names(); err != nil {
				w.t.Fatal(err)
			}
			found, _, err := storage.One[int](ctx, w.db, `SELECT COUNT(*) FROM state_doubts WHERE first_num = $1`, doubt.First)
			if want := map[bool]int{false: 0, true: 1}[partial != nil]; err != nil || found != want {
				w.t.Errorf("doubts that are left: got %d, %v, want %d", found, err, want)
			}
		}
	})
}

// Only nodes that are noted are deleted, of the room that they are of.
func TestDropNodes(t *testing.T) {
	each(t, func(w *world) {
		one, two := w.room("one"), w.room("two")
		for i, room := range []Room{one, two} {
			var nodes []statetree.NewNode
			for n := range 4 {
				nodes = append(nodes, statetree.NewNode{ID: statetree.NodeID(1000 + 10*i + n), Data: []byte("a node")})
			}
			w.commit(Append{Room: room, NewRoom: true, Nodes: nodes})
		}
		w.commit(NoteNodes{one.Num, []statetree.NodeID{1001, 1002, 1003, 1010, 1011}})
		w.commit(NoteNodes{two.Num, []statetree.NodeID{1012}})
		w.commit(DropNodes{one.Num, []statetree.NodeID{1000, 1001, 1002, 1010, 1012}})
		for room, want := range map[int64][]statetree.NodeID{one.Num: {1000, 1003}, two.Num: {1010, 1011, 1012, 1013}} {
			got, err := NodeNumbersIn(ctx, w.db, room, Numbers{0, 2000})
			if err != nil || !slices.Equal(got, want) {
				w.t.Errorf("nodes: got %v, %v, want %v", got, err, want)
			}
		}
		for _, c := range []struct {
			room  int64
			below statetree.NodeID
			limit int
			want  []statetree.NodeID
		}{
			{one.Num, 2000, 10, []statetree.NodeID{1011, 1003}}, {one.Num, 1011, 10, []statetree.NodeID{1003}},
			{one.Num, 2000, 1, []statetree.NodeID{1011}}, {two.Num, 2000, 10, []statetree.NodeID{1012}},
		} {
			if got, err := Notes(ctx, w.db, c.room, c.below, c.limit); err != nil || !slices.Equal(got, c.want) {
				w.t.Errorf("%d notes below %d: got %v, %v, want %v", c.limit, c.below, got, err, c.want)
			}
		}
	})
}
