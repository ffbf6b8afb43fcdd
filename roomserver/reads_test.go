package roomserver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

func mustCanonical(t testing.TB, raw []byte) []byte {
	t.Helper()
	b, err := canonical.JSON(raw, canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// After a restart of all, the room is as it was.
func TestRestart(t *testing.T) {
	for _, kind := range storagetest.Kinds {
		t.Run(kind, func(t *testing.T) {
			at := storagetest.Settings(t, kind)
			ctx := context.Background()
			db := storagetest.Start(t, at)
			s := newServer(t, db)
			room := mustCreate(t, s, "alice", roomserver.CreateRoom{Preset: "public_chat", Name: "Home"})
			for i := range 100 {
				if err := s.Join(ctx, as(fmt.Sprintf("user%d", i)), room, ""); err != nil {
					t.Fatal(err)
				}
			}
			before := stateIDs(t, s, room)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = storagetest.Start(t, at)
			s = newServer(t, db)
			if after := stateIDs(t, s, room); !slices.Equal(before, after) || len(after) != 106 {
				t.Errorf("state: got %d events, want the %d from before", len(after), len(before))
			}
			if _, err := s.Send(ctx, as("user99"), send(room, "here again")); err != nil {
				t.Errorf("send: %v", err)
			}
			if said := timelineOf(t, s, db, room); len(said) != 1 {
				t.Errorf("timeline: got %v", said)
			}
		})
	}
}

func stateIDs(t *testing.T, s *roomserver.Server, room matrix.RoomID) (ids []string) {
	t.Helper()
	state, err := s.Current(context.Background(), room)
	if err != nil {
		t.Fatal(err)
	}
	events, err := state.All(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range events {
		ids = append(ids, string(ev.ID))
	}
	slices.Sort(ids)
	return ids
}

// What readers in the process get as news is what they would read.
func TestNews(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		start := db.Position()
		room := mustCreate(t, s, "alice", roomserver.CreateRoom{Preset: "public_chat"})
		in := send(room, "secret")
		in.Txn = roomserver.Txn{Path: "p", ID: "1"}
		id, err := s.Send(ctx, as("alice"), in)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetReceipt(ctx, as("alice"), roomserver.SetReceipt{Room: room, Type: "m.read", Event: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Redact(ctx, as("alice"), roomserver.RedactEvent{Room: room, Event: id}); err != nil {
			t.Fatal(err)
		}
		news, complete := db.Since(start, 100)
		if !complete {
			t.Fatal("the tail is not complete")
		}
		stored, err := rooms.LogAfter(ctx, db, start, 100)
		if err != nil {
			t.Fatal(err)
		}
		checkNews(t, news, stored)
		last := lastEvent(t, news)
		if len(last.Redacted) != 1 || last.Redacted[0] != stored[len(stored)-2].Num {
			t.Errorf("the redaction says it redacted %v, want %d", last.Redacted, stored[len(stored)-2].Num)
		}
	})
}

func checkNews(t *testing.T, news []storage.News, stored []*rooms.Event) {
	t.Helper()
	receipts := 0
	for _, n := range news {
		if r, ok := n.Value.(rooms.Receipt); ok && n.Kind == storage.NewsReceipt && n.User == r.User {
			receipts++
			continue
		}
		ev, ok := rooms.FromNews(n)
		if !ok || n.Kind != storage.NewsEvent {
			t.Errorf("news %+v is no event", n)
			continue
		}
		want := stored[0]
		stored = stored[1:]
		if ev.Num != want.Num || ev.Position != want.Position || ev.Order != want.Order || ev.StateBefore != want.StateBefore ||
			ev.TxnID != want.TxnID || ev.TxnDevice != want.TxnDevice || ev.ID != want.ID {
			t.Errorf("news: got %+v, want %+v", ev, want)
		}
		if n.User != ev.Target() || n.Room != ev.RoomID {
			t.Errorf("news of %s: about %s in %s", ev.ID, n.User, n.Room)
		}
		if (ev.StateAfter != ev.StateBefore) != ev.IsState() {
			t.Errorf("%s: state moves from %d to %d", ev.Type, ev.StateBefore, ev.StateAfter)
		}
	}
	if len(stored) != 0 || receipts != 1 {
		t.Errorf("%d events were no news, %d receipts were, want 0 and 1", len(stored), receipts)
	}
}

func lastEvent(t *testing.T, news []storage.News) *rooms.Event {
	t.Helper()
	ev, ok := rooms.FromNews(news[len(news)-1])
	if !ok {
		t.Fatal("the last news is no event")
	}
	return ev
}

func bodies(events []*rooms.Event) string {
	var all []string
	for _, ev := range events {
		body, _ := canonical.String(canonical.Get(ev.Content, "body"))
		all = append(all, body)
	}
	return strings.Join(all, " ")
}

func TestTimelineReads(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		id := mustCreate(t, s, "alice", roomserver.CreateRoom{})
		room, err := s.Room(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		start := db.Position()
		for i := range 5 {
			if _, err := s.Send(ctx, as("alice"), send(id, fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		all, err := rooms.Timeline(ctx, db, room, storage.Span{After: start, UpTo: db.Position()}, 100)
		if err != nil || bodies(all) != "4 3 2 1 0" {
			t.Fatalf("timeline: got %s, %v; want 4 3 2 1 0", bodies(all), err)
		}
		two := all[2].Order
		read := func(p rooms.PageQuery) func() ([]*rooms.Event, error) {
			return func() ([]*rooms.Event, error) { return rooms.Page(ctx, db, room, p) }
		}
		for _, c := range []struct {
			name, want string
			read       func() ([]*rooms.Event, error)
		}{
			{"newest two", "4 3", func() ([]*rooms.Event, error) {
				return rooms.Timeline(ctx, db, room, storage.Span{After: start, UpTo: db.Position()}, 2)
			}},
			{"up to 2", "2 1 0", func() ([]*rooms.Event, error) {
				return rooms.Timeline(ctx, db, room, storage.Span{After: start, UpTo: two.Anchor}, 10)
			}},
			{"forward from 2", "3 4", read(rooms.PageQuery{From: two, Limit: 10})},
			{"forward to 2", "0 1 2", read(rooms.PageQuery{From: rooms.Order{Anchor: start}, To: two, Limit: 10})},
			{"backward from 2", "2 1", read(rooms.PageQuery{From: two, Backward: true, Limit: 2})},
			{"backward to 2", "4 3", read(rooms.PageQuery{From: all[0].Order, To: two, Backward: true, Limit: 10})},
			{"by ID", "3 1 3", func() ([]*rooms.Event, error) {
				return rooms.EventsByID(ctx, db, room, []matrix.EventID{all[1].ID, "$none", all[3].ID, all[1].ID})
			}},
			{"by number", "0 4", func() ([]*rooms.Event, error) {
				return rooms.EventsByNumber(ctx, db, room, []int64{all[4].Num, 1 << 40, all[0].Num})
			}},
			{"of another room", "", func() ([]*rooms.Event, error) {
				other := room
				other.Num++
				return rooms.EventsByNumber(ctx, db, other, []int64{all[4].Num})
			}},
		} {
			events, err := c.read()
			if err != nil || bodies(events) != c.want {
				t.Errorf("%s: got %q, %v; want %q", c.name, bodies(events), err, c.want)
			}
		}
	})
}

func TestRootAt(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		before := db.Position()
		id := mustCreate(t, s, "alice", roomserver.CreateRoom{Preset: "public_chat"})
		made := db.Position()
		if _, err := s.Send(ctx, as("alice"), send(id, "hello")); err != nil {
			t.Fatal(err)
		}
		said := db.Position()
		if err := s.Join(ctx, as("bob"), id, ""); err != nil {
			t.Fatal(err)
		}
		room, err := s.Room(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			at   storage.Position
			want event.Membership // of bob
		}{{"made", made, ""}, {"said", said, ""}, {"joined", db.Position(), event.Join}} {
			root, err := rooms.RootAt(ctx, db, room.Num, c.at)
			if err != nil || root == 0 {
				t.Fatalf("%s: root %d, %v", c.name, root, err)
			}
			got, _, err := s.StateAt(room, root).Member(ctx, user("bob"))
			if err != nil || got != c.want {
				t.Errorf("%s: bob is %q, %v; want %q", c.name, got, err, c.want)
			}
		}
		if root, err := rooms.RootAt(ctx, db, room.Num, before); err != nil || root != 0 {
			t.Errorf("before the room: got root %d, %v; want 0", root, err)
		}
	})
}

func TestEventTooLarge(t *testing.T) {
	s := newServer(t, storagetest.Open(t, storagetest.SQLite))
	room := mustCreate(t, s, "alice", roomserver.CreateRoom{})
	_, err := s.Send(context.Background(), as("alice"), send(room, strings.Repeat("x", 65536)))
	if matrix.CodeOf(err) != matrix.TooLarge {
		t.Errorf("got %v, want M_TOO_LARGE", err)
	}
	if _, err := s.Send(context.Background(), as("alice"), send(room, strings.Repeat("x", 64000))); err != nil {
		t.Errorf("a message of 64,000 bytes: %v", err)
	}
}

// NUL is legal in JSON, in state keys and in transaction IDs.
func TestNUL(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		room := mustCreate(t, s, "alice", roomserver.CreateRoom{Name: "a\x00b"})
		in := send(room, "a\x00b")
		in.Txn = roomserver.Txn{Path: "p\x00", ID: "1\x00"}
		if _, err := s.Send(ctx, as("alice"), in); err != nil {
			t.Error(err)
		}
		_, err := s.SendState(ctx, as("alice"), roomserver.SendState{Room: room, Type: "x\x00", StateKey: "\x00", Content: []byte(`{}`)})
		if err != nil {
			t.Error(err)
		}
		state, err := newServer(t, db).Current(ctx, room)
		if err != nil {
			t.Fatal(err)
		}
		found, err := state.Events(ctx, event.Key{Type: "x\x00", StateKey: "\x00"}, event.Key{Type: "m.room.name"})
		if err != nil || found[0] == nil || string(found[1].Content) != `{"name":"a\u0000b"}` {
			t.Errorf("got %v, %v", found, err)
		}
	})
}

func TestDirectoryPages(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		for i := range 7 {
			id := mustCreate(t, s, "alice", roomserver.CreateRoom{Public: true, Name: fmt.Sprintf("room %d", i)})
			for j := range i / 2 {
				if err := s.Join(ctx, as(fmt.Sprintf("user%d", j)), id, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := "room 6/room 4/room 5/room 2/room 3/room 0/room 1"
		var names, back []string
		in := roomserver.DirectoryQuery{Limit: 3}
		for pages := 1; ; pages++ {
			page, err := s.Directory(ctx, in)
			if err != nil || page.Total != 7 {
				t.Fatalf("page %d: total %d, %v", pages, page.Total, err)
			}
			for _, r := range page.Rooms {
				names = append(names, r.Name)
			}
			if (page.Prev == "") != (pages == 1) {
				t.Errorf("page %d: prev is %q", pages, page.Prev)
			}
			if in.Since = page.Next; in.Since == "" {
				in.Since = page.Prev
				break
			}
		}
		if got := strings.Join(names, "/"); got != want {
			t.Errorf("forward: got %s, want %s", got, want)
		}
		for in.Since != "" {
			page, err := s.Directory(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			var here []string
			for _, r := range page.Rooms {
				here = append(here, r.Name)
			}
			back = append(here, back...)
			in.Since = page.Prev
		}
		if got := strings.Join(back, "/"); got != strings.TrimSuffix(want, "/room 1") {
			t.Errorf("backward: got %s, want all but the last of %s", got, want)
		}
		if _, err := s.Directory(ctx, roomserver.DirectoryQuery{Since: "nonsense!"}); matrix.CodeOf(err) != matrix.InvalidParam {
			t.Errorf("a bad token: got %v, want M_INVALID_PARAM", err)
		}
	})
}
