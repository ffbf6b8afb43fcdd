package rooms

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const bob matrix.UserID = "@bob:example.org"

func TestMemberships(t *testing.T) {
	each(t, func(w *world) {
		one, two := w.room("one"), w.room("two")
		w.begin(one, 0, "alice join", "bob invite", "carol ban")
		w.begin(two, 0, "bob join")
		joined := w.event(one, "bob join")
		joined.Members[0].Stripped = []byte(`[{"type":"x"}]`)
		at := w.commit(Append{Room: one, Events: []NewEvent{joined}})
		got, found, err := MembershipOf(ctx, w.db, one.Num, bob)
		want := Membership{
			RoomNum: one.Num, Room: one.ID, User: bob, Membership: event.Join, EventNum: joined.Num,
			Position: at, Stripped: joined.Members[0].Stripped,
		}
		if err != nil || !found || !reflect.DeepEqual(got, want) {
			w.t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		for _, c := range []struct {
			name, want string
			read       func() ([]Membership, error)
		}{
			{"of bob", "two:bob=join one:bob=join", func() ([]Membership, error) { return MembershipsOfUser(ctx, w.db, bob, 0) }},
			{"of bob, lately", "one:bob=join", func() ([]Membership, error) { return MembershipsOfUser(ctx, w.db, bob, at-1) }},
			{"of bob, not since", "", func() ([]Membership, error) { return MembershipsOfUser(ctx, w.db, bob, at) }},
			{"joined to one", "one:alice=join one:bob=join", func() ([]Membership, error) { return MembersOf(ctx, w.db, one.Num, event.Join) }},
			{"joined or banned", "one:alice=join one:bob=join one:carol=ban", func() ([]Membership, error) {
				return MembersOf(ctx, w.db, one.Num, event.Join, event.Ban)
			}},
			{"all of two", "two:bob=join", func() ([]Membership, error) { return MembersOf(ctx, w.db, two.Num) }},
			{"history", "one:bob=invite one:bob=join", func() ([]Membership, error) { return MembershipHistory(ctx, w.db, one, bob) }},
			{"of nobody", "", func() ([]Membership, error) { return MembershipsOfUser(ctx, w.db, "@nobody:example.org", 0) }},
		} {
			found, err := c.read()
			var all []string
			for _, m := range found {
				all = append(all, fmt.Sprintf("%s:%s=%s", string(m.Room)[1:4], m.User.Localpart(), m.Membership))
			}
			if got := strings.Join(all, " "); err != nil || got != c.want {
				w.t.Errorf("%s: got %q, %v; want %q", c.name, got, err, c.want)
			}
		}
	})
}

func TestForget(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		w.begin(room, 0, "bob leave")
		left, _, err := MembershipOf(ctx, w.db, room.Num, bob)
		if err != nil {
			w.t.Fatal(err)
		}
		at := w.commit(Forget{Membership: left})
		if m, _, err := MembershipOf(ctx, w.db, room.Num, bob); err != nil || !m.Forgotten {
			w.t.Errorf("got %+v, %v; want it forgotten", m, err)
		}
		news, _ := w.db.Since(at-1, 1)
		if m, ok := news[0].Value.(Membership); !ok || !m.Forgotten || news[0].User != bob || news[0].Kind != storage.NewsInvite {
			w.t.Errorf("news: got %+v", news[0])
		}
		w.commit(Append{Room: room, Events: []NewEvent{w.event(room, "bob join")}})
		if m, _, err := MembershipOf(ctx, w.db, room.Num, bob); err != nil || m.Forgotten {
			w.t.Errorf("who is back: got %+v, %v", m, err)
		}
		if _, err := w.db.Commit(ctx, Forget{Membership: left}); matrix.CodeOf(err) != matrix.Unknown {
			w.t.Errorf("forgetting after coming back: got %v, want M_UNKNOWN", err)
		}
	})
}

func TestReceipts(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		w.begin(room, 0, "a")
		set := func(user matrix.UserID, typ, thread string, to matrix.EventID) storage.Position {
			return w.commit(SetReceipt{Room: room.ID, Receipt: Receipt{RoomNum: room.Num, User: user, Type: typ, Thread: thread, Event: to, TS: 5}})
		}
		first := set(bob, "m.read", "", "$a")
		set(bob, "m.read", "main", "$b")
		last := set(bob, "m.read", "", "$c")
		set("@carol:example.org", "m.read.private", "", "$d")
		for _, c := range []struct {
			name, want string
			read       func() ([]Receipt, error)
		}{
			{"all", "bob$b bob$c carol$d", func() ([]Receipt, error) { return Receipts(ctx, w.db, room.Num, storage.Span{UpTo: last + 9}) }},
			{"since the second", "bob$c carol$d", func() ([]Receipt, error) {
				return Receipts(ctx, w.db, room.Num, storage.Span{After: first + 1, UpTo: last + 9})
			}},
			{"up to the third", "bob$b bob$c", func() ([]Receipt, error) { return Receipts(ctx, w.db, room.Num, storage.Span{UpTo: last}) }},
			{"of bob", "bob$b bob$c", func() ([]Receipt, error) { return ReceiptsOfUser(ctx, w.db, room.Num, bob) }},
			{"of another room", "", func() ([]Receipt, error) { return Receipts(ctx, w.db, room.Num+1, storage.Span{UpTo: last + 9}) }},
		} {
			found, err := c.read()
			var all []string
			for _, r := range found {
				all = append(all, r.User.Localpart()+string(r.Event))
			}
			if got := strings.Join(all, " "); err != nil || got != c.want {
				w.t.Errorf("%s: got %q, %v; want %q", c.name, got, err, c.want)
			}
		}
	})
}

func TestAliases(t *testing.T) {
	each(t, func(w *world) {
		one, two := w.room("one"), w.room("two")
		w.begin(one, 0, "a")
		w.begin(two, 0, "a")
		a := Alias{Alias: "#a:example.org", RoomNum: one.Num, Room: one.ID, Creator: bob}
		b := Alias{Alias: "#b:example.org", RoomNum: one.Num, Room: one.ID, Creator: bob}
		w.commit(b)
		w.commit(a)
		if _, err := w.db.Commit(ctx, Alias{Alias: a.Alias, RoomNum: two.Num, Room: two.ID, Creator: bob}); !errors.Is(err, storage.ErrDuplicate) {
			w.t.Errorf("an alias that is taken: got %v, want ErrDuplicate", err)
		}
		if got, found, err := ByAlias(ctx, w.db, a.Alias); err != nil || !found || got != a {
			w.t.Errorf("by alias: got %+v, %v, %v; want %+v", got, found, err, a)
		}
		if got, err := AliasesOf(ctx, w.db, one.Num); err != nil || !reflect.DeepEqual(got, []Alias{a, b}) {
			w.t.Errorf("of the room: got %+v, %v", got, err)
		}
		moved := a
		moved.RoomNum = two.Num
		if _, err := w.db.Commit(ctx, DeleteAlias{Alias: moved}); matrix.CodeOf(err) != matrix.NotFound {
			w.t.Errorf("deleting one that leads elsewhere: got %v, want M_NOT_FOUND", err)
		}
		w.commit(DeleteAlias{Alias: a})
		if _, found, err := ByAlias(ctx, w.db, a.Alias); err != nil || found {
			w.t.Errorf("deleted: %v, %v", found, err)
		}
	})
}

func TestDirectory(t *testing.T) {
	each(t, func(w *world) {
		publish := func(name, kind string, joined int64, listed bool) Room {
			room := w.room(name)
			w.begin(room, joined, "a")
			w.commit(Publish{Entry: Published{RoomNum: room.Num, Name: name, Topic: "On 100% Ünique_things", RoomType: kind, Listed: listed}})
			return room
		}
		publish("Few", "", 2, true)
		many := publish("Many", "", 9, true)
		publish("Space", "m.space", 5, true)
		hidden := publish("Hidden", "", 7, false)
		for _, c := range []struct {
			name, want string
			ask        DirectoryQuery
		}{
			{"all", "Many Space Few", DirectoryQuery{Limit: 10}},
			{"first", "Many", DirectoryQuery{Limit: 1}},
			{"after the first", "Space Few", DirectoryQuery{Limit: 10, After: DirectoryPlace{9, many.Num}}},
			{"before the last", "Space Many", DirectoryQuery{Limit: 10, After: DirectoryPlace{2, 0}, Backward: true}},
			{"rooms without a type", "Many Few", DirectoryQuery{Limit: 10, RoomTypes: []string{""}}},
			{"spaces", "Space", DirectoryQuery{Limit: 10, RoomTypes: []string{"m.space", "x"}}},
			{"no types at all", "", DirectoryQuery{Limit: 10, RoomTypes: []string{}}},
			{"a term", "Many", DirectoryQuery{Limit: 10, Term: "man"}},
			{"signs that LIKE would read", "Many Space Few", DirectoryQuery{Limit: 10, Term: "100% ünique_"}},
			{"nor these", "", DirectoryQuery{Limit: 10, Term: "m%y"}},
		} {
			found, err := Directory(ctx, w.db, c.ask)
			var names []string
			for _, p := range found {
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); err != nil || got != c.want {
				w.t.Errorf("%s: got %q, %v; want %q", c.name, got, err, c.want)
			}
		}
		if n, err := DirectorySize(ctx, w.db, DirectoryQuery{RoomTypes: []string{""}}); err != nil || n != 2 {
			w.t.Errorf("size: got %d, %v; want 2", n, err)
		}
		for num, want := range map[int64]bool{many.Num: true, hidden.Num: false, 1 << 40: false} {
			if got, err := IsPublished(ctx, w.db, num); err != nil || got != want {
				w.t.Errorf("published %d: got %v, %v; want %v", num, got, err, want)
			}
		}
	})
}

// planned shows how SQLite would run a query.
type planned struct {
	t    *testing.T
	db   *storage.DB
	plan *[]string
}

func (p planned) Query(ctx context.Context, sql string, args ...any) (storage.Rows, error) {
	steps, err := p.db.Query(ctx, "EXPLAIN QUERY PLAN "+sql, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	defer steps.Close()
	for steps.Next() {
		var id, parent, unused int64
		var step string
		if err := steps.Scan(&id, &parent, &unused, &step); err != nil {
			p.t.Fatal(err)
		}
		*p.plan = append(*p.plan, step)
	}
	return p.db.Query(ctx, sql, args...)
}

// The reads of sending and syncing go by an index, in its order.
func TestPlans(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLite))
	room := w.room("one")
	var plan []string
	q := planned{t, w.db, &plan}
	for name, read := range map[string]func() error{
		"Timeline":          func() error { _, err := Timeline(ctx, q, room, storage.Span{After: 1, UpTo: 9}, 5); return err },
		"Page forward":      func() error { _, err := Page(ctx, q, room, PageQuery{Limit: 5}); return err },
		"Page backward":     func() error { _, err := Page(ctx, q, room, PageQuery{Backward: true, Limit: 5}); return err },
		"LogAfter":          func() error { _, err := LogAfter(ctx, q, 1, 5); return err },
		"EventsByNumber":    func() error { _, err := EventsByNumber(ctx, q, room, []int64{1}); return err },
		"EventByID":         func() error { _, _, err := EventByID(ctx, q, room, "$a"); return err },
		"SentAs":            func() error { _, _, err := SentAs(ctx, q, 1); return err },
		"RootAt":            func() error { _, err := RootAt(ctx, q, 1, 1); return err },
		"HeadOf":            func() error { _, _, err := HeadOf(ctx, q, 1); return err },
		"MembershipOf":      func() error { _, _, err := MembershipOf(ctx, q, 1, bob); return err },
		"MembershipsOfUser": func() error { _, err := MembershipsOfUser(ctx, q, bob, 1); return err },
		"MembersOf":         func() error { _, err := MembersOf(ctx, q, 1, event.Join); return err },
		"MembershipHistory": func() error { _, err := MembershipHistory(ctx, q, room, bob); return err },
		"Receipts":          func() error { _, err := Receipts(ctx, q, 1, storage.Span{After: 1, UpTo: 9}); return err },
	} {
		plan = nil
		if err := read(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, step := range plan {
			scans := strings.HasPrefix(step, "SCAN") && !strings.HasPrefix(step, "SCAN json_each")
			if scans || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s: %s", name, step)
			}
		}
	}
}
