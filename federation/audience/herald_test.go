package audience

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-chat/myelin/federation/outbox"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const (
	us    = matrix.ServerName("us.example")
	alice = matrix.UserID("@alice:us.example")
	bob   = matrix.UserID("@bob:them.example")
)

// deafBus is the bus of a server that is one node.
type deafBus struct{}

func (deafBus) Publish(string, []byte) error                            { return nil }
func (deafBus) Subscribe(string, func([]byte)) (cancel func(), _ error) { return func() {}, nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// street has one other server, which is in all rooms and hears what it is told.
type street struct {
	mu    sync.Mutex
	heard []string
}

func (*street) Owed(context.Context, *rooms.Event) ([]matrix.ServerName, error) { return nil, nil }
func (*street) Servers(context.Context, matrix.RoomID) ([]matrix.ServerName, error) {
	return theirs, nil
}
func (*street) Sharing(context.Context, matrix.UserID) ([]matrix.ServerName, error) {
	return theirs, nil
}
func (*street) Permits(matrix.ServerName) error { return nil }

var theirs = []matrix.ServerName{"them.example"}

func (s *street) Send(_ context.Context, _ matrix.ServerName, t outbox.Transaction) (outbox.Answer, error) {
	var body struct {
		EDUs []struct {
			Content struct {
				User   matrix.UserID `json:"user_id"`
				Typing bool
				Push   []struct {
					User     matrix.UserID `json:"user_id"`
					Presence string
					Status   string `json:"status_msg"`
				}
			}
		}
	}
	if err := json.Unmarshal(t.Body, &body); err != nil {
		return outbox.Answer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, edu := range body.EDUs {
		if edu.Content.User != "" {
			s.heard = append(s.heard, fmt.Sprintf("%s typing %t", edu.Content.User.Localpart(), edu.Content.Typing))
		}
		for _, p := range edu.Content.Push {
			s.heard = append(s.heard, fmt.Sprintf("%s %s %s", p.User.Localpart(), p.Presence, p.Status))
		}
	}
	return outbox.Answer{}, nil
}

// hears lets time pass, and checks what was heard meanwhile.
func (s *street) hears(t *testing.T, what string, d time.Duration, want ...string) {
	t.Helper()
	time.Sleep(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.heard, want) {
		t.Errorf("%s: heard %q, want %q", what, s.heard, want)
	}
	s.heard = nil
}

func TestHerald(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet, there := slog.New(slog.DiscardHandler), &street{}
		moment, err := ephemeral.New(ephemeral.Settings{Bus: deafBus{}, Now: time.Now, Boot: "one", Log: quiet})
		must(t, err)
		box := outbox.New(outbox.Settings{
			DB: storagetest.Open(t, storagetest.SQLite), ServerName: us, Rooms: there, Sender: there, Log: quiet,
		})
		herald := NewHerald(HeraldSettings{Ephemeral: moment, Outbox: box, ServerName: us, Now: time.Now, Log: quiet})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, run := range []func(context.Context) error{moment.Run, box.Run, herald.Run} {
			running.Go(func() { _ = run(ctx) })
		}
		synctest.Wait()
		const room = "!r:us.example"

		moment.SetTyping(room, alice, 100*time.Second)
		moment.SetTyping(room, bob, 100*time.Second) // of another server, which says so itself
		there.hears(t, "alice types", time.Second, "alice typing true")
		there.hears(t, "alice goes on", 40*time.Second, "alice typing true")
		moment.SetTyping(room, alice, 0)
		there.hears(t, "alice has typed", time.Second, "alice typing false")

		must(t, moment.SetPresence(alice, ephemeral.Unavailable, "out"))
		moment.SetRemotePresence(ephemeral.RemotePresence{User: bob, State: ephemeral.Online})
		there.hears(t, "alice goes out", 10*time.Second, "alice unavailable out")
		there.hears(t, "alice is silent", 60*time.Second, "alice offline out")

		done := moment.Syncing(alice, ephemeral.Online)
		there.hears(t, "alice is back", 10*time.Second, "alice online out")
		there.hears(t, "alice stays", 20*time.Minute, "alice online out", "alice unavailable out", "alice unavailable out")
		done()
		cancel()
		running.Wait()
	})
}
