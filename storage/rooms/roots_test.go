package rooms

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// noRoots are the columns of numbers that name no root.
const noRoots = `
	device_changes.position device_lists_told.id device_lists_told.position destination_rooms.acked destination_rooms.kind
	destination_rooms.room_num destinations.failing_ms destinations.failures destinations.retry_ms devices.created_ms
	devices.seen_ms directory.room_num events.anchor events.event_num events.kind events.position events.redacted_by
	events.room_num events.sub events.ts events.txn_key gaps.event_num gaps.room_num log.group_number log.id
	log.next_number log.position login_tokens.expires_ms membership_history.event_num membership_history.position
	membership_history.room_num memberships.event_num memberships.position memberships.room_num migrations.version
	outbox.id outbox.position outbox_edus.created_ms outbox_edus.position own_keys.retired_ms partial_events.event_num
	partial_events.ord partial_events.room_num partial_joins.hole partial_joins.invited partial_joins.join_num
	partial_joins.joined partial_joins.room_num partial_joins.until pending_redactions.event_num
	pending_redactions.room_num profiles.position receipts.position receipts.room_num receipts.ts
	registration_tokens.completed registration_tokens.expires_ms registration_tokens.uses_allowed
	room_heads.depth room_heads.invited room_heads.joined room_heads.position room_heads.room_num room_states.position
	room_states.room_num rooms.room_num server_key_documents.document_num server_key_documents.valid_until_ms
	server_keys.document_num server_keys.fetched_ms server_keys.valid_until_ms staged_transactions.received_ms
	staged_transactions.starts staged_transactions.txn_num state_doubts.first_num state_doubts.noted_ms
	state_doubts.room_num state_nodes.node_num state_nodes.room_num state_notes.node_num state_notes.room_num
	suspect_events.panics suspect_events.seen_ms to_device.position to_device_known.at_ms to_device_known.known_key
	unheard_leaves.room_num unheard_leaves.since_ms users.created_ms users.deactivated_ms account_data.position
	aliases.room_num`

// Whoever adds a column of numbers says here that it names no root, or adds it to rootColumns, and to EachRoots: else the
// states that it names are deleted one day.
func TestAllRootColumnsAreKnown(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLite))
	known := strings.Fields(noRoots)
	for _, c := range rootColumns {
		known = append(known, c.table+"."+c.column)
	}
	slices.Sort(known)
	var columns []string
	rows, err := w.db.Query(ctx, `
		SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c
		WHERE t.type = 'table' AND upper(c.type) IN ('BIGINT', 'INTEGER')`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		columns = append(columns, name)
	}
	slices.Sort(columns)
	for _, name := range columns {
		if _, ok := slices.BinarySearch(known, name); !ok {
			t.Errorf("%s is new: does it name the root of a state?", name)
		}
	}
	for _, name := range known {
		if _, ok := slices.BinarySearch(columns, name); !ok {
			t.Errorf("%s is not there any more", name)
		}
	}
}

// Both ways to the roots of a room find all of them, whichever row names them.
func TestRoots(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		a := Append{Room: room, NewRoom: true}
		var want []statetree.NodeID
		root := func() statetree.NodeID {
			want = append(want, statetree.NodeID(w.db.NextNumber()))
			return want[len(want)-1]
		}
		for i, kind := range []Kind{Live, SoftFailed, Rejected, Outlier, Backfilled, Live} {
			ev := w.event(room, fmt.Sprint(i))
			ev.Kind, ev.StateUnknown, ev.StateBefore, ev.StateWith = kind, false, root(), root()
			if kind == Backfilled {
				ev.Order = Order{Anchor: 1, Sub: -1}
			}
			a.Events = append(a.Events, ev)
		}
		unknown := w.event(room, "unknown")
		unknown.Kind, unknown.StateUnknown = Outlier, true
		a.Events = append(a.Events, unknown)
		last := &a.Events[5]
		last.StateMoved, last.StateAfter = true, root()
		a.Head = &Head{RoomNum: room.Num, Root: root()}
		a.Partial = &PartialJoin{RoomNum: room.Num, Hole: statetree.Hole(w.db.NextNumber()), Join: last.Num}
		w.commit(a)
		filled := *a.Partial
		filled.Members = root()
		w.commit(FillHole{Join: filled})

		var got []statetree.NodeID
		err := EachRoots(ctx, w.db, room.Num, func(roots []statetree.NodeID) error { got = append(got, roots...); return nil })
		if err != nil || !reflect.DeepEqual(sorted(got), sorted(want)) {
			w.t.Errorf("by the room: got %v, %v, want %v", sorted(got), err, sorted(want))
		}
		events, err := NamedIn(ctx, w.db, Numbers{0, w.db.NextNumber()}, 1, math.MaxInt64)
		if err != nil {
			w.t.Fatal(err)
		}
		elsewhere, err := NamedElsewhere(ctx, w.db, 1, math.MaxInt64)
		if err != nil {
			w.t.Fatal(err)
		}
		moves := w.moves(1)
		elsewhere = append(elsewhere, moves...)
		if got := sorted(append(events, elsewhere...)); !slices.Equal(got, sorted(want)) {
			w.t.Errorf("by the tables: got %v, want %v", got, sorted(want))
		}
		for _, only := range want {
			events, err := NamedIn(ctx, w.db, Numbers{0, w.db.NextNumber()}, only, only)
			if err != nil {
				w.t.Fatal(err)
			}
			elsewhere, err := NamedElsewhere(ctx, w.db, only, only)
			if err != nil || !slices.Contains(append(events, elsewhere...), only) && !slices.Contains(moves, only) {
				w.t.Errorf("root %d alone: got %v and %v, %v", only, events, elsewhere, err)
			}
		}
	})
}

// moves are the roots of the moves of all rooms, read so many at a time.
func (w *world) moves(limit int) (all []statetree.NodeID) {
	w.t.Helper()
	for at := (MovePlace{}); ; {
		roots, last, err := MovesAfter(ctx, w.db, at, limit)
		if err != nil || len(roots) > limit {
			w.t.Fatalf("moves after %v: got %d, %v, want %d at most", at, len(roots), err, limit)
		}
		if all, at = append(all, roots...), last; len(roots) < limit {
			return all
		}
	}
}

// The moves of all rooms are read in slices that begin in the middle of a room.
func TestMovesInSlices(t *testing.T) {
	each(t, func(w *world) {
		var want []statetree.NodeID
		for i := range 3 {
			room := w.room(fmt.Sprint(i))
			a := Append{Room: room, NewRoom: true}
			for n := range 3 {
				ev := w.event(room, fmt.Sprint(i, n))
				ev.Kind, ev.StateMoved, ev.StateAfter = Live, true, statetree.NodeID(w.db.NextNumber())
				a.Events, want = append(a.Events, ev), append(want, ev.StateAfter)
			}
			w.commit(a)
		}
		for limit := 1; limit <= 10; limit++ {
			if got := w.moves(limit); !slices.Equal(sorted(got), sorted(want)) || len(got) != len(want) {
				w.t.Errorf("%d at a time: got %v, want %v", limit, got, want)
			}
		}
	})
}

// A room has more roots of each kind than are read at once.
func TestManyRoots(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		a := Append{Room: room, NewRoom: true}
		var want []statetree.NodeID
		for i := range 2 * (rootsPerRead + 1) {
			ev := w.event(room, fmt.Sprint(i))
			ev.StateBefore = statetree.NodeID(10 * (i + 1))
			ev.StateWith, want = ev.StateBefore+1, append(want, ev.StateBefore, ev.StateBefore+1)
			if ev.Kind = SoftFailed; i%2 == 0 {
				ev.Kind, ev.StateMoved, ev.StateAfter = Live, true, ev.StateBefore+2
				want = append(want, ev.StateAfter)
			}
			a.Events = append(a.Events, ev)
		}
		w.commit(a)
		var got []statetree.NodeID
		err := EachRoots(ctx, w.db, room.Num, func(roots []statetree.NodeID) error { got = append(got, roots...); return nil })
		if got := sorted(got); err != nil || !slices.Equal(got, want) {
			w.t.Errorf("got %d roots, %v, want %d", len(got), err, len(want))
		}
	})
}

func sorted(ids []statetree.NodeID) []statetree.NodeID {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
