package syncapi_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/syncapi"
)

// Whatever an answer says must be of one moment, that of its token. Each test here makes one thing that it is built
// from be of another.

// held is a log that ends where it is held, though the database shows what came after: as it does between a commit
// and the news of it.
type held struct {
	w    *world
	upTo atomic.Int64 // 0: it is not held
}

func (h *held) tip() storage.Position {
	if p := storage.Position(h.upTo.Load()); p != 0 {
		return p
	}
	return h.w.db.Position()
}

// hold restarts the world with a log that is held where it ends now.
func (w *world) hold() *held {
	w.restart()
	w.stop()
	h := &held{w: w}
	h.upTo.Store(int64(w.db.Position()))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serve(syncapi.NewHeld(w.settings(), h.tip))
	return h
}

func (h *held) release() {
	h.upTo.Store(0)
	h.w.api.Step()
}

// sync lets a client take an answer. The log is released if the answer waits for it.
func (h *held) sync(t *testing.T, c *client) (a answer) {
	t.Helper()
	select {
	case <-h.w.api.Wanted(): // by what was written
	default:
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a = h.w.askAs(t, c, nil)
	}()
	for {
		select {
		case <-h.w.api.Wanted():
			h.release()
			continue
		case <-done:
		}
		c.take(t, h.w, a)
		return a
	}
}

func position(t *testing.T, a answer) storage.Position {
	t.Helper()
	token, err := view.ParseSyncToken(a.NextBatch)
	must(t, err)
	return token.Position
}

// A membership that the log does not tell of yet is in no answer, nor is the room shown as of before it.
func TestMembershipAheadOfTheLog(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob, carol)
		w.send(bob, room, "before carol leaves")
		c := newClient(carol, "D", 15, 6)
		c.take(t, w, w.askAs(t, c, nil))
		must(t, w.rooms.Leave(ctx, who(carol), room, ""))
		c.take(t, w, w.askAs(t, c, nil))

		log := w.hold()
		w.join(room, carol)
		joined := w.db.Position()
		a := log.sync(t, c)
		if _, told := a.Rooms.Join[room]; !told || position(t, a) < joined {
			t.Errorf("the room is told as joined (%v) at position %d, want it at %d, when it was", told, position(t, a), joined)
		}
		log.release()
		must(t, w.rooms.Leave(ctx, who(bob), room, ""))
		w.join(room, bob)
		for range 6 {
			w.send(alice, room, "so that nothing of bob's is in the timeline")
		}
		log.release()
		log.sync(t, c)
		w.check(t, c, []matrix.RoomID{room})
	})
}

// Who was told of leaving a room without what came before it, as the database had seen the user come back.
func TestPastAheadOfTheLog(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob)
		c := newClient(bob, "D", 0, 6)
		c.take(t, w, w.askAs(t, c, nil))
		w.send(alice, room, "before he leaves")
		must(t, w.rooms.Leave(ctx, who(bob), room, ""))

		log := w.hold()
		w.askAs(t, newClient(bob, "another", 0, 6), nil) // he is known as one who has left
		w.send(alice, room, "while he is away")
		w.join(room, bob)
		left := log.sync(t, c).Rooms.Leave[room]
		want(t, "timeline until he left", bodies(left.Timeline.Events), "before he leaves", "leave @bob:test")
		log.release()
		log.sync(t, c)
		w.check(t, c, []matrix.RoomID{room})
	})
}

// What was read of the log before a fresh start is not taken in again after it.
func TestFreshStartBetweenReadingAndTaking(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		log := w.hold()
		c := newClient(alice, "D", 0, 8)
		log.sync(t, c)
		log.upTo.Store(0)
		w.send(alice, room, "once")
		w.api.StepMissing()
		log.sync(t, newClient(alice, "another", 0, 0)) // she is known again
		w.send(alice, room, "more")
		w.api.Step()
		want(t, "timeline", bodies(log.sync(t, c).Rooms.Join[room].Timeline.Events), "once", "more")
	})
}

// A summary that was read before the memory was lost is not taken for that of now.
func TestSummaryOfBeforeAFreshStart(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.sync(alice, nil)
		read := w.db.Position()
		w.join(room, bob)
		w.sync(alice, nil)
		w.api.Miss()
		w.sync(alice, query{"filter": `{"room":{"not_rooms":["` + string(room) + `"]}}`}) // the room is in memory, its summary is not
		known, err := w.rooms.Room(ctx, room)
		must(t, err)
		w.api.LearnJoined(known.Num, 1, read)
		if got := w.sync(alice, nil).Rooms.Join[room].Summary.Joined; got != 2 {
			t.Errorf("joined: got %d, want 2", got)
		}
	})
}

// A client that comes back to a room has let go of its members: they are sent again.
func TestLazyMembersAfterComingBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{Name: "den"})
		w.join(room, bob)
		c := newClient(bob, "D", 1, 1)
		sync := func() roomAnswer {
			a := w.askAs(t, c, nil)
			c.take(t, w, a)
			return a.Rooms.Join[room]
		}
		w.send(alice, room, "hi")
		wantSorted(t, "members at first", members(sync().State), "join @alice:test", "join @bob:test")
		must(t, w.rooms.Leave(ctx, who(bob), room, ""))
		sync()
		w.join(room, bob)
		sync()
		w.send(alice, room, "welcome back")
		want(t, "members after coming back", members(sync().State), "join @alice:test")
		w.send(alice, room, "and how are you?")
		want(t, "members known since", members(sync().State))
	})
}

// moved is a room whose current state is moved by no event of its own, as when branches are resolved.
type moved struct{ rooms.Move }

var (
	movedStates  = storage.NewTable("room_states", storage.Fail, "room_num BIGINT KEY, position BIGINT KEY, root BIGINT")
	movedHistory = storage.NewTable("membership_history", storage.Fail, `
		room_num BIGINT KEY, user_id TEXT KEY, position BIGINT KEY, membership TEXT, event_num BIGINT`)
)

// Rows implements storage.Write.
func (m moved) Rows(it *storage.Item) {
	at := it.News(storage.News{Kind: storage.NewsState, Room: m.Room, Value: &m.Move})
	it.Insert(movedStates, m.RoomNum, at, int64(m.Root))
	for _, member := range m.Members {
		it.Exec(`UPDATE memberships SET membership = $1, position = $2 WHERE room_num = $3 AND user_id = $4`,
			string(member.Membership), at, member.RoomNum, string(member.User))
		it.Insert(movedHistory, member.RoomNum, string(member.User), at, string(member.Membership), member.EventNum)
	}
}

// State that resolution moves is told, though no event of the timeline shows it.
func TestStateMovedWithoutAnEvent(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		id := w.create(alice, roomserver.CreateRoom{})
		room, err := w.rooms.Room(ctx, id)
		must(t, err)
		w.join(id, bob)
		topic := w.state(alice, id, "m.room.topic", `{"topic":"first"}`)
		root, err := rooms.RootAt(ctx, w.db, room.Num, w.db.Position())
		must(t, err)
		w.join(id, carol)
		member, _, err := rooms.MembershipOf(ctx, w.db, room.Num, carol)
		must(t, err)
		w.state(alice, id, "m.room.topic", `{"topic":"second"}`)
		bobs, carols := w.sync(bob, nil).NextBatch, w.sync(carol, nil).NextBatch

		member.Membership = event.Leave
		_, err = w.db.Commit(ctx, moved{rooms.Move{RoomNum: room.Num, Room: id, Root: root, Members: []rooms.Membership{member}}})
		must(t, err)
		got := w.sync(bob, query{"since": bobs}).Rooms.Join[id]
		if got.State == nil || !slices.ContainsFunc(got.State.Events, func(e clientEvent) bool { return e.ID == topic }) {
			t.Errorf("state: got %+v, want the first topic in it", got.State)
		}
		if len(got.Timeline.Events) != 0 {
			t.Errorf("timeline: got %q, want none", bodies(got.Timeline.Events))
		}
		if _, told := w.sync(carol, query{"since": carols}).Rooms.Leave[id]; !told {
			t.Errorf("carol, whose join was resolved away, is not told that she is out")
		}
	})
}
