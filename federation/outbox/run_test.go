package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// wire is a network: some servers answer after a while, some never.
type wire struct {
	t     testing.TB
	delay time.Duration

	mu      sync.Mutex
	silent  map[matrix.ServerName]bool
	peers   map[matrix.ServerName]*peer
	arrived map[matrix.EventID]map[matrix.ServerName]time.Time
	tries   map[matrix.ServerName][]time.Time
	denied  map[matrix.ServerName]bool
}

func newWire(t testing.TB, all ...matrix.ServerName) *wire {
	w := &wire{
		t: t, delay: 50 * time.Millisecond, silent: map[matrix.ServerName]bool{}, peers: map[matrix.ServerName]*peer{},
		arrived: map[matrix.EventID]map[matrix.ServerName]time.Time{}, tries: map[matrix.ServerName][]time.Time{},
		denied: map[matrix.ServerName]bool{},
	}
	for _, name := range all {
		w.peers[name] = newPeer(name)
	}
	return w
}

// Permits implements Sender.
func (w *wire) Permits(s matrix.ServerName) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.denied[s] {
		return errors.New("denied")
	}
	return nil
}

// Send implements Sender.
func (w *wire) Send(ctx context.Context, to matrix.ServerName, tx Transaction) (Answer, error) {
	w.mu.Lock()
	w.tries[to] = append(w.tries[to], time.Now())
	silent := w.silent[to]
	w.mu.Unlock()
	if silent {
		<-ctx.Done()
		return Answer{}, ctx.Err()
	}
	time.Sleep(w.delay)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range tx.PDUs {
		if w.arrived[id] == nil {
			w.arrived[id] = map[matrix.ServerName]time.Time{}
		}
		w.arrived[id][to] = time.Now()
	}
	return Answer{}, w.peers[to].receive(w.t, tx)
}

func (w *wire) silence(silent bool, all ...matrix.ServerName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range all {
		w.silent[s] = silent
	}
}

func (w *wire) tried(s matrix.ServerName) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.tries[s]...)
}

// got returns what a server has received so far.
func (w *wire) got(s matrix.ServerName) (events map[matrix.EventID]bool, edus map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.peers[s].seen), maps.Clone(w.peers[s].edus)
}

// running runs an outbox as long as f does, with time that passes when nobody works.
func running(t *testing.T, f func(v *village, w *wire, box *Outbox), all ...matrix.ServerName) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v, w := newVillage(t, storagetest.Open(t, storagetest.SQLite)), newWire(t, all...)
		box := v.outbox(w, time.Now)
		stop := start(t, box)
		f(v, w, box)
		stop()
	})
}

// start runs an outbox until the function that it returns is called.
func start(t testing.TB, box *Outbox) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- box.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want no error", err)
		}
	}
}

// pass lets time pass, and what happens in it be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestManyDestinations: a thousand destinations, half of them dead. The others are not delayed, and the memory needed is
// small.
func TestManyDestinations(t *testing.T) {
	const limitBytes, limitGoroutines = 50 << 20, 200
	live, dead := names(500, "live"), names(500, "dead")
	running(t, func(v *village, w *wire, box *Outbox) {
		w.silence(true, dead...)
		before := heapInUse()
		r := v.room("town", append(append([]matrix.ServerName(nil), live...), dead...)...)
		worst := map[int]time.Duration{}
		for i := range 150 {
			sent := time.Now()
			e := v.say(r, fmt.Sprint(i))
			box.Wake()
			pass(2 * time.Second)
			w.mu.Lock()
			for _, s := range live {
				at, ok := w.arrived[e.id][s]
				if !ok {
					t.Errorf("event %d did not arrive at %s", i, s)
				}
				worst[i] = max(worst[i], at.Sub(sent))
			}
			w.mu.Unlock()
		}
		grown := heapInUse() - before
		t.Logf("memory %d kB, goroutines %d, delay of the first event %v", grown>>10, runtime.NumGoroutine(), worst[0])
		if grown > limitBytes {
			t.Errorf("memory: got %d bytes, want less than %d", grown, limitBytes)
		}
		if n := runtime.NumGoroutine(); n > limitGoroutines {
			t.Errorf("got %d goroutines, want at most %d: those of transactions under way", n, limitGoroutines)
		}
		for i, d := range worst {
			// At first nobody knows who is dead.
			limit := w.delay
			if i == 0 {
				limit = 2 * time.Second
			}
			if d > limit {
				t.Errorf("event %d arrived after %v, want at most %v", i, d, limit)
			}
		}
		w.silence(false, dead...)
		for _, s := range dead {
			box.Heard(s)
		}
		pass(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range dead {
			if got := len(w.peers[s].seen); got != 150 {
				t.Fatalf("%s: got %d events after it came back, want 150", s, got)
			}
		}
	}, append(append([]matrix.ServerName(nil), live...), dead...)...)
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestBackOff: retries start after a second, double, and are bounded; who speaks is tried at once.
func TestBackOff(t *testing.T) {
	running(t, func(v *village, w *wire, box *Outbox) {
		w.silence(true, a)
		v.say(v.room("r", a), "x")
		box.Wake()
		pass(24 * time.Hour)
		tries := w.tried(a)
		want := time.Second
		for i := 1; i < len(tries); i++ {
			pause := tries[i].Sub(tries[i-1]) - patience
			if pause < want*4/5 || pause > want*6/5+time.Millisecond {
				t.Errorf("pause %d: got %v, want about %v", i, pause, want)
			}
			want = min(2*want, time.Hour)
		}
		if len(tries) < 30 {
			t.Errorf("got %d tries in a day, want more than 30", len(tries))
		}
		pass(patience)
		w.silence(false, a)
		box.Heard(a)
		pass(100 * time.Millisecond)
		if events, _ := w.got(a); len(events) != 1 {
			t.Error("a server that was heard of did not get its event at once")
		}
	}, a)
}

// TestHeardInFlight: who speaks while a try that will fail is under way is tried soon after.
func TestHeardInFlight(t *testing.T) {
	running(t, func(v *village, w *wire, box *Outbox) {
		w.silence(true, a)
		v.say(v.room("r", a), "x")
		box.Wake()
		pass(30 * time.Minute)
		for n := len(w.tried(a)); len(w.tried(a)) == n; {
			pass(time.Second)
		}
		w.silence(false, a)
		box.Heard(a)
		pass(patience + 2*time.Second)
		if events, _ := w.got(a); len(events) != 1 {
			t.Error("a server that was heard of during a try did not get its event after it")
		}
	}, a)
}

// TestVolatile: typing is sent at once, presence together, and neither to who does not answer.
func TestVolatile(t *testing.T) {
	running(t, func(v *village, w *wire, box *Outbox) {
		ctx := context.Background()
		r := v.room("r", a, "b.example")
		w.silence(true, "b.example")
		v.say(r, "x")
		box.Wake()
		pass(90 * time.Second)
		if err := box.Typing(ctx, r.ID, "@a:us.example", true); err != nil {
			t.Error(err)
		}
		for i := range 3 {
			user := matrix.UserID(fmt.Sprintf("@u%d:us.example", i%2))
			p := Presence{User: user, State: "online", Status: fmt.Sprint(i), LastActive: time.Now()}
			if err := box.Presence(ctx, p); err != nil {
				t.Error(err)
			}
		}
		pass(time.Second)
		typing := `{"room_id":"!r:us.example","typing":true,"user_id":"@a:us.example"}`
		if _, edus := w.got(a); edus[typing] != 1 || len(edus) != 1 {
			t.Errorf("after a second: got %v, want %s", edus, typing)
		}
		pass(presenceDelay)
		presence := `{"push":[{"currently_active":false,"last_active_ago":2000,"presence":"online","status_msg":"2","user_id":"@u0:us.example"},` +
			`{"currently_active":false,"last_active_ago":2000,"presence":"online","status_msg":"1","user_id":"@u1:us.example"}]}`
		if _, edus := w.got(a); edus[presence] != 1 || len(edus) != 2 {
			t.Errorf("later: got %v, want %s", edus, presence)
		}
		w.silence(false, "b.example")
		box.Heard("b.example")
		pass(time.Hour)
		if events, edus := w.got("b.example"); len(edus) != 0 || len(events) != 1 {
			t.Errorf("the one that was away: got %v and %d events, want no EDUs and 1 event", edus, len(events))
		}
	}, a, "b.example")
}

// TestDeniedServers: nothing is sent to, or noted of, a server that is not talked to.
func TestDeniedServers(t *testing.T) {
	running(t, func(v *village, w *wire, box *Outbox) {
		w.mu.Lock()
		w.denied["b.example"] = true
		w.mu.Unlock()
		r := v.room("r", a, "b.example", us)
		v.say(r, "x")
		v.commit(servers.OweEDU{Servers: r.in, Type: "m.x", Key: "k", Content: []byte(`{}`)})
		box.Wake()
		pass(time.Minute)
		if events, _ := w.got(a); len(w.tried("b.example"))+len(w.tried(us)) > 0 || len(events) != 1 {
			t.Errorf("got %v at %s, and tries at others, want it alone", events, a)
		}
	}, a, "b.example", us)
}

// TestBrokenEvent: an event of which nobody knows to whom it is owed holds the others up for seconds only.
func TestBrokenEvent(t *testing.T) {
	running(t, func(v *village, w *wire, box *Outbox) {
		r := v.room("r", a)
		n := v.event(r, "broken")
		v.failing[n.ID] = true
		v.commitEvent(r, n)
		e := v.say(r, "whole")
		box.Wake()
		pass(maxTroubles * 2 * time.Second)
		if events, _ := w.got(a); !events[e.id] || len(events) != 1 {
			t.Errorf("got %v, want %s alone", events, e.id)
		}
	}, a)
}

// TestForgotten: nothing stays of a destination that has all.
func TestForgotten(t *testing.T) {
	running(t, func(v *village, w *wire, box *Outbox) {
		all := names(20, "s")
		r := v.room("r", all...)
		for i := range 400 {
			v.say(r, fmt.Sprint(i))
		}
		box.Wake()
		pass(2 * time.Second)
		box.mu.Lock()
		if n := len(box.state.destinations); n > 0 {
			t.Errorf("got %d destinations in memory, want none", n)
		}
		box.mu.Unlock()
		rows, err := servers.Destinations(context.Background(), v.db)
		if err != nil || len(rows) > 0 {
			t.Errorf("got the rows %v, %v, want none", rows, err)
		}
	}, names(20, "s")...)
}

// TestRestarts: an outbox that is stopped again and again in the middle of everything delivers all, in order.
func TestRestarts(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		all := names(5, "s")
		v, w := newVillage(t, db), newWire(t, all...)
		w.delay = time.Millisecond
		town, village := v.room("town", all...), v.room("village", all[:2]...)
		for i := range 10 {
			box := v.outbox(w, time.Now)
			stop := start(t, box)
			for j := range 30 {
				v.say(town, fmt.Sprint(i, " ", j))
				v.say(village, fmt.Sprint(i, " ", j))
				box.Wake()
			}
			stop()
		}
		box := v.outbox(w, time.Now)
		stop := start(t, box)
		last := v.say(town, "the end")
		box.Wake()
		for !box.rests(last.position) {
			runtime.Gosched()
		}
		stop()
		for i, s := range all {
			want := map[matrix.RoomID][]matrix.EventID{}
			for _, e := range v.events {
				if e.room == town.ID || i < 2 {
					want[e.room] = append(want[e.room], e.id)
				}
			}
			if got := w.peers[s].events; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %d and %d events, want %d and %d in their order", s,
					len(got[town.ID]), len(got[village.ID]), len(want[town.ID]), len(want[village.ID]))
			}
		}
	})
}

// rests says whether all up to a position of the log is delivered.
func (o *Outbox) rests(at storage.Position) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.state.destinations {
		if d.owes() || d.phase == busy {
			return false
		}
	}
	return o.state.position >= at
}
