package keys_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// Those who need the same keys at the same time wait for one request.
func TestConcurrentRequestsAreOne(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	w.serve(p.name, func(rw http.ResponseWriter, _ *http.Request) {
		if first.CompareAndSwap(false, true) {
			close(arrived)
		}
		<-proceed
		rw.Write(p.document())
	})
	r, e := w.ring(), p.event("10", start)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { check(t, "one of many", r, e, right) })
	}
	<-arrived
	close(proceed)
	all.Wait()
	if got := w.requests(p.name); got != 1 {
		t.Errorf("got %d requests, want 1", got)
	}
}

// Keys outlive the process, and the server that published them.
func TestKeysAreStored(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t)
		p := w.peer("a.example", 7)
		e := p.event("10", start)
		check(t, "at first", newRing(t, w.settings(db)), e, right)
		w.down(p.name)
		w.requests(p.name)
		w.pass(1000 * time.Hour)
		again := newRing(t, w.settings(db))
		check(t, "after a restart, with the server gone", again, e, right)
		check(t, "an event that is newer than the key", again, p.event("10", w.clock()), unavailable)
		check(t, "the same in version 4", again, p.event("4", w.clock()), right)
	})
}

// A server that is down is asked again after a pause that grows, and taken back at once when it is up.
func TestPausesAfterFailures(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	w.serve(p.name, http.NotFound)
	r, e := w.ring(), p.event("10", start)
	for i, pause := range []time.Duration{0, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
		w.pass(pause - time.Millisecond)
		if pause > 0 {
			check(t, "in the pause", r, e, unavailable)
			if got := w.requests(p.name); got != 0 {
				t.Errorf("in pause %d: got %d requests, want none", i, got)
			}
		}
		w.pass(time.Millisecond)
		check(t, "after the pause", r, e, unavailable)
		if got := w.requests(p.name); got != 1 {
			t.Errorf("after pause %d: got %d requests, want 1", i, got)
		}
	}
	for range 20 {
		w.pass(keys.LongestPause)
		check(t, "after the longest pause", r, e, unavailable)
	}
	if got := w.requests(p.name); got != 20 {
		t.Errorf("got %d requests, want one after each of 20 pauses", got)
	}
	w.peer(p.name, 7)
	w.pass(keys.LongestPause)
	check(t, "when it is back", r, e, right)
}

// A server that comes back under the same name with another key is believed a moment after it was last asked.
func TestServerThatCameBackWithAnotherKey(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	r := w.ring()
	check(t, "the first key", r, p.event("10", start), right)
	for i := range byte(5) {
		p.key = newKey(t, signing.KeyID(fmt.Sprintf("ed25519:new%d", i)), 10+i)
		w.pass(keys.PauseAfterNews)
		check(t, "the next key", r, p.event("10", start), right)
	}
}

// The more often a server was asked in vain, the longer it is left alone; a new key ends that.
func TestPausesAfterBarrenAnswers(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	r := w.ring()
	check(t, "the first key", r, p.event("10", start), right)
	w.requests(p.name)
	forged := *p
	forged.key = newKey(t, "ed25519:forged", 9)
	for i, pause := range []time.Duration{1, 2, 4, 8, 15, 15} {
		w.pass(pause*time.Second - time.Millisecond)
		check(t, "in the pause", r, forged.event("10", start), wrong)
		if got := w.requests(p.name); got != 0 {
			t.Errorf("in pause %d: got %d requests, want none", i, got)
		}
		w.pass(time.Millisecond)
		check(t, "after the pause", r, forged.event("10", start), wrong)
		if got := w.requests(p.name); got != 1 {
			t.Errorf("after pause %d: got %d requests, want 1", i, got)
		}
	}
	p.key = newKey(t, "ed25519:new", 10)
	w.pass(keys.PauseAfterAnswer)
	check(t, "the new key", r, p.event("10", start), right)
	p.key = newKey(t, "ed25519:newer", 11)
	w.pass(keys.PauseAfterNews)
	check(t, "the newer key", r, p.event("10", start), right)
}

// A server that answers is not flooded, whatever keys signatures name; a new key is found a moment later.
func TestNewKeyOfAServer(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	r := w.ring()
	check(t, "the first key", r, p.event("10", start), right)
	forged := *p
	for i := range 20 {
		forged.key = newKey(t, signing.KeyID(fmt.Sprintf("ed25519:forged%d", i)), 9)
		check(t, "a key that is not there", r, forged.event("10", start), wrong)
	}
	if got := w.requests(p.name); got != 1 {
		t.Errorf("got %d requests, want 1", got)
	}
	p.key = newKey(t, "ed25519:new", 10)
	w.pass(keys.PauseAfterAnswer)
	check(t, "the new key", r, p.event("10", start), right)
	if got := w.requests(p.name); got != 1 {
		t.Errorf("got %d requests for the new key, want 1", got)
	}
}

// Servers that do not come to an end keep nobody longer than he waits.
func TestSlowServers(t *testing.T) {
	w := newWorld(t)
	stop := make(chan struct{})
	defer close(stop)
	for name, h := range map[matrix.ServerName]http.HandlerFunc{
		"silent.example": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		},
		"endless.example": func(rw http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(rw, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
	} {
		p := w.peer(name, 7)
		w.serve(name, h)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		errs := w.ring().VerifyEvents(ctx, []*event.Event{p.event("10", start)})
		cancel()
		if got := outcome(errs[0]); got != unavailable {
			t.Errorf("%s: got %s, want %s", name, got, unavailable)
		}
	}
}

// One batch full of servers that do not answer keeps neither another batch nor requests from their keys.
func TestDeadServersDelayNobodyElse(t *testing.T) {
	w := newWorld(t)
	a := w.peer("a.example", 7)
	b := w.peer("b.example", 8)
	arrived, stop := make(chan struct{}, 150), make(chan struct{})
	var events []*event.Event
	for i := range 150 {
		p := w.peer(matrix.ServerName(fmt.Sprintf("s%d.example", i)), byte(i))
		w.serve(p.name, func(_ http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		})
		events = append(events, p.event("10", start))
	}
	r := w.ring()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan []error)
	go func() { ended <- r.VerifyEvents(ctx, events) }()
	for range keys.MaxPerBatch {
		<-arrived
	}
	check(t, "another batch", r, a.event("10", start), right)
	if _, err := r.Authenticate(t.Context(), b.request("GET", "/", "")); err != nil {
		t.Errorf("a request: got %v, want no error", err)
	}
	cancel()
	for i, err := range <-ended {
		if got := outcome(err); got != unavailable {
			t.Errorf("event %d: got %s, want %s", i, got, unavailable)
		}
	}
	close(stop)
}

// Who goes away after a request does not free the way for more of them: the question that he caused is still on its way.
func TestSlotsAreKept(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	arrived, stop := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 20 {
		p := w.peer(matrix.ServerName(fmt.Sprintf("s%d.example", i)), byte(i))
		w.serve(p.name, func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-stop
		})
		for range 3 {
			all.Go(func() {
				if _, err := r.Authenticate(ctx, p.request("GET", "/", "")); err == nil {
					t.Error("got no error")
				}
			})
		}
	}
	for range 20 {
		<-arrived
	}
	cancel()
	all.Wait()
	if got := r.RequestSlots(); got != 20 {
		t.Errorf("got %d slots taken, want 20, one for each server", got)
	}
	close(stop)
}

// What is forgotten in memory is in the database, and a server with keys without end fills neither.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	r.LimitMemory(10)
	var events []*event.Event
	for i := range 12 {
		events = append(events, w.peer(matrix.ServerName(fmt.Sprintf("s%d.example", i)), byte(i+10)).event("10", start))
	}
	for range 2 {
		for _, e := range events {
			check(t, string(e.Sender), r, e, right)
			if got := r.InMemory(); got > 10 {
				t.Errorf("got %d servers and keys in memory, want at most 10", got)
			}
		}
	}
	for i := range 12 {
		if got := w.requests(matrix.ServerName(fmt.Sprintf("s%d.example", i))); got != 1 {
			t.Errorf("server %d was asked %d times, want once", i, got)
		}
	}
	r.LimitMemory(10_000)
	p := w.peer("many.example", 7)
	for i := range keys.MaxServerKeys + 20 {
		p.key = newKey(t, signing.KeyID(fmt.Sprintf("ed25519:k%d", i)), byte(i))
		w.pass(keys.PauseAfterAnswer)
		check(t, "another key", r, p.event("10", start), right)
	}
	if got := r.KeysOf(p.name); got != keys.MaxServerKeys {
		t.Errorf("got %d keys in memory, want %d", got, keys.MaxServerKeys)
	}
}

// Without a database nothing is known, and nobody is told why.
func TestDatabaseThatIsGone(t *testing.T) {
	w := newWorld(t)
	a := w.peer("a.example", 7)
	s := w.settings(storagetest.Open(t, storagetest.SQLite))
	r := newRing(t, s)
	if err := s.DB.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, "event", r, a.event("10", start), unavailable)
	_, err := r.Authenticate(t.Context(), a.request("GET", "/", ""))
	if want := "M_UNAUTHORIZED: the signing keys of a.example cannot be had now"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if text, err := r.QueryServer(t.Context(), a.name, 0); err == nil {
		t.Errorf("got %s, want an error", text)
	}
	if _, err := keys.New(t.Context(), s); err == nil {
		t.Error("got another ring, want an error")
	}
}
