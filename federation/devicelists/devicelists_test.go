package devicelists

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

const (
	us    = matrix.ServerName("us.example")
	alice = matrix.UserID("@alice:us.example")
	bob   = matrix.UserID("@bob:us.example")
)

// world is a database with users, and who shares rooms with them.
type world struct {
	t       *testing.T
	db      *storage.DB
	teller  *Teller
	sharing map[matrix.UserID][]matrix.ServerName
	broken  map[matrix.UserID]error
}

func each(t *testing.T, f func(w *world)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := &world{
			t: t, db: db, broken: map[matrix.UserID]error{},
			sharing: map[matrix.UserID][]matrix.ServerName{alice: {"a.example", us, "denied.example"}, bob: {"a.example", "b.example"}},
		}
		for _, u := range []matrix.UserID{alice, bob} {
			w.commit(users.Create{User: users.User{ID: u}})
		}
		w.restart()
		f(w)
	})
}

// Sharing implements Rooms.
func (w *world) Sharing(_ context.Context, u matrix.UserID) ([]matrix.ServerName, error) {
	return w.sharing[u], w.broken[u]
}

// SharingOnly implements Rooms.
func (w *world) SharingOnly(context.Context, matrix.UserID, matrix.RoomID) ([]matrix.ServerName, error) {
	return nil, errors.New("nobody has joined")
}

// restart forgets what is in memory.
func (w *world) restart() {
	w.teller = New(Settings{
		DB: w.db, ServerName: us, Now: func() time.Time { return time.UnixMilli(1000) }, Log: slog.New(slog.DiscardHandler),
		Rooms: w,
		Permits: func(s matrix.ServerName) error {
			if s == "denied.example" {
				return errors.New("denied")
			}
			return nil
		},
	})
}

func (w *world) commit(writes ...storage.Write) storage.Position {
	w.t.Helper()
	p, err := w.db.Commit(w.t.Context(), storage.All(writes))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) login(u matrix.UserID, device matrix.DeviceID, name string) storage.Position {
	w.t.Helper()
	s := users.Session{Device: device, DisplayName: name}
	copy(s.Token[:], string(u)+string(device))
	return w.commit(users.Login{User: u, Session: s})
}

func (w *world) follow() {
	w.t.Helper()
	if err := w.teller.Follow(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// told is the content of an EDU.
type told struct {
	User    matrix.UserID   `json:"user_id"`
	Device  matrix.DeviceID `json:"device_id"`
	Name    string          `json:"device_display_name"`
	Deleted bool            `json:"deleted"`
	Stream  int64           `json:"stream_id"`
	Prev    []int64         `json:"prev_id"`
}

// take returns what waits for a server, and takes it for delivered.
func (w *world) take(s matrix.ServerName) (list []told) {
	w.t.Helper()
	edus, err := servers.EDUsAfter(w.t.Context(), w.db, s, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range edus {
		var one told
		if err := json.Unmarshal(e.Content, &one); err != nil || e.Type != "m.device_list_update" {
			w.t.Fatalf("owed to %s: %s %s: %v", s, e.Type, e.Content, err)
		}
		list = append(list, one)
	}
	w.commit(servers.DropEDUs{BeforeMS: 2000})
	return list
}

func (w *world) want(what string, got []told, want ...told) {
	w.t.Helper()
	if !reflect.DeepEqual(got, want) {
		w.t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func id(p storage.Position) int64 { return int64(p) * 1024 }

func TestDeviceLists(t *testing.T) {
	each(t, func(w *world) {
		one := w.login(alice, "A", "Phone")
		w.follow()
		w.want("a device", w.take("a.example"), told{alice, "A", "Phone", false, id(one), []int64{}})
		two := w.commit(users.RenameDevice{User: alice, Device: "A", DisplayName: ""})
		three := w.login(alice, "B", `"é"`)
		w.follow()
		w.want("renamed, and another", w.take("a.example"), told{alice, "A", "", false, id(two), []int64{id(one)}},
			told{alice, "B", `"é"`, false, id(three), []int64{id(two)}})
		four := w.commit(users.RemoveAllDevices{User: alice})
		w.follow()
		w.want("removed", w.take("a.example"), told{alice, "A", "", true, id(four), []int64{id(three)}},
			told{alice, "B", "", true, id(four) + 1, []int64{id(four)}})
		w.follow()
		w.want("nothing new", w.take("a.example"))
		if got, err := users.DeviceStream(w.t.Context(), w.db, alice, w.db.Position()); got != id(four)+1 || err != nil {
			w.t.Errorf("the last stream ID: got %d, %v, want %d", got, err, id(four)+1)
		}
		for _, s := range []matrix.ServerName{us, "denied.example", "b.example"} {
			w.want(string(s), w.take(s))
		}
		five := w.login(bob, "C", "")
		w.follow()
		w.want("another user", w.take("b.example"), told{bob, "C", "", false, id(five), []int64{}})
	})
}

// Whatever the server has in memory when it ends, what was told is not told again, and what was not, is.
func TestDeviceListsOverRestarts(t *testing.T) {
	each(t, func(w *world) {
		var want []told
		last := []int64{}
		for i := range 6 {
			if i%2 == 0 {
				w.restart()
			}
			device := matrix.DeviceID(fmt.Sprint("D", i))
			p := w.login(alice, device, "")
			want = append(want, told{alice, device, "", false, id(p), last})
			last = []int64{id(p)}
			if i%3 == 0 {
				continue // it ends before it has read of that
			}
			w.follow()
			w.restart()
			w.follow()
		}
		edus, err := servers.EDUsAfter(w.t.Context(), w.db, "a.example", 0, 100)
		if err != nil || len(edus) != 6 {
			w.t.Fatalf("owed: got %d, %v, want 6", len(edus), err)
		}
		w.want("all", w.take("a.example"), want...)
		w.restart()
		w.follow()
		w.want("after a restart with nothing new", w.take("a.example"))
	})
}

// What changes again before it is delivered is told once, as it is then; its server sees that it misses something.
func TestDeviceListsOfAServerThatIsAway(t *testing.T) {
	each(t, func(w *world) {
		one := w.login(alice, "A", "first")
		w.follow()
		two := w.commit(users.RenameDevice{User: alice, Device: "A", DisplayName: "second"})
		w.follow()
		w.want("the last name", w.take("a.example"), told{alice, "A", "second", false, id(two), []int64{id(one)}})
	})
}

// A user whose servers cannot be found does not keep others waiting for ever.
func TestDeviceListsPoison(t *testing.T) {
	each(t, func(w *world) {
		w.broken[alice] = errors.New("broken")
		w.login(alice, "A", "")
		p := w.login(bob, "B", "")
		for try := range maxTries - 1 {
			if err := w.teller.Follow(w.t.Context()); !errors.Is(err, w.broken[alice]) {
				w.t.Fatalf("try %d: got %v, want the failure", try, err)
			}
			w.want("while it is tried", w.take("b.example"))
		}
		w.follow()
		w.want("given up", w.take("b.example"), told{bob, "B", "", false, id(p), []int64{}})
		w.want("given up", w.take("a.example"))
	})
}

// A large audience is told in several commits, and all of it.
func TestDeviceListsOfManyServers(t *testing.T) {
	each(t, func(w *world) {
		var all []matrix.ServerName
		for i := range 2 * rowsAtOnce {
			all = append(all, matrix.ServerName(fmt.Sprintf("s%05d.example", i)))
		}
		w.sharing[alice] = all
		w.login(alice, "A", "")
		w.login(alice, "B", "")
		w.follow()
		found, err := servers.EDUsOwed(w.t.Context(), w.db, 0)
		if err != nil || len(found) != len(all) {
			w.t.Fatalf("owed to %d servers, %v, want %d", len(found), err, len(all))
		}
		for _, s := range []matrix.ServerName{all[0], all[rowsAtOnce-1], all[rowsAtOnce], all[len(all)-1]} {
			edus, err := servers.EDUsAfter(w.t.Context(), w.db, s, 0, 10)
			if err != nil || len(edus) != 2 {
				w.t.Errorf("owed to %s: got %d, %v, want 2", s, len(edus), err)
			}
		}
	})
}

// Run reads on whenever it is woken.
func TestRun(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	asked := make(questions, 10)
	teller := New(Settings{
		DB: db, ServerName: us, Now: time.Now, Log: slog.New(slog.DiscardHandler), Rooms: asked,
		Permits: func(matrix.ServerName) error { return nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- teller.Run(ctx) }()
	for _, u := range []matrix.UserID{alice, bob} {
		s := users.Session{Device: "D"}
		copy(s.Token[:], u)
		if _, err := db.Commit(t.Context(), users.Create{User: users.User{ID: u}, Session: &s}); err != nil {
			t.Fatal(err)
		}
		teller.Wake()
		if got := <-asked; got != u {
			t.Errorf("got %s, want %s", got, u)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if told, err := servers.ToldOfDeviceLists(t.Context(), db); told < db.Position()-1 || err != nil {
		t.Errorf("stored: told up to %d, %v, want nearly %d", told, err, db.Position())
	}
}

// questions are those for whom it was asked who shares a room with them.
type questions chan matrix.UserID

func (q questions) Sharing(_ context.Context, u matrix.UserID) ([]matrix.ServerName, error) {
	q <- u
	return nil, nil
}

func (questions) SharingOnly(context.Context, matrix.UserID, matrix.RoomID) ([]matrix.ServerName, error) {
	return nil, errors.New("nobody has joined")
}

func TestByPosition(t *testing.T) {
	var got []int
	for group := range byPosition([]users.DeviceChange{{Position: 1}, {Position: 1}, {Position: 2}, {Position: 4}, {Position: 4}}) {
		got = append(got, len(group))
	}
	if want := []int{2, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("got groups of %v, want %v", got, want)
	}
}
