package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mail is servers with a user each, who all send numbered messages to each other's devices.
type mail struct {
	*fleet
	all  []*watcher
	sent []int // by each of all
}

func newMail(t *testing.T, f *fleet) *mail {
	m := &mail{fleet: f, sent: make([]int, len(f.servers))}
	for i, name := range []string{"alice", "bob", "carol"}[:len(f.servers)] {
		m.all = append(m.all, f.servers[i].watcher(t, name))
	}
	return m
}

// post sends the next message of a user to all users, itself too, until that is acknowledged.
func (m *mail) post(ctx context.Context, t *testing.T, from int) {
	w, n := m.all[from], m.sent[from]
	var messages []string
	for i, to := range m.all {
		device := "*"
		if i%2 == 0 {
			device = to.device
		}
		messages = append(messages, fmt.Sprintf(`%q:{%q:{"n":%d}}`, to.user, device, n))
	}
	body := fmt.Sprintf(`{"messages":{%s}}`, strings.Join(messages, ","))
	for {
		r, err := w.ask(ctx, "PUT", fmt.Sprintf("/sendToDevice/org.example.number/%d", n), body)
		if err == nil && r.status == http.StatusOK {
			m.sent[from]++
			return
		}
		if ctx.Err() != nil || err == nil && r.status != http.StatusServiceUnavailable {
			t.Errorf("%s cannot send %d: got %d %v, %v", w.user, n, r.status, r.body, err)
			return
		}
		time.Sleep(retryTime)
	}
}

// arrive waits until all messages have come, and holds that each came once and in order.
func (m *mail) arrive(t *testing.T) {
	t.Helper()
	for _, w := range m.all {
		for i, from := range m.all {
			w.until(fmt.Sprintf("%d messages of %s", m.sent[i], from.user), func() bool { return len(w.letters[from.user]) >= m.sent[i] })
		}
	}
	for _, w := range m.all {
		if err := w.sync(t.Context(), 200); err != nil { // and nothing more
			t.Fatal(err)
		}
		for i, from := range m.all {
			want := make([]int, m.sent[i])
			for n := range want {
				want[n] = n
			}
			if got := w.letters[from.user]; !slices.Equal(got, want) {
				t.Errorf("%s has of %s %v, want 0 to %d", w.user, from.user, got, m.sent[i]-1)
			}
		}
	}
}

// TestFederationToDevicePartition: what is sent to devices while their server is away waits for it, also over a restart of
// the server that sends.
func TestFederationToDevicePartition(t *testing.T) {
	t.Parallel()
	eachMix(t, 3, func(t *testing.T, f *fleet) {
		m := newMail(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), settleTime)
		defer cancel()
		speak := func(who ...int) {
			for range 10 {
				for _, i := range who {
					m.post(ctx, t, i)
				}
			}
		}
		for away, server := range f.servers {
			next := (away + 1) % len(f.servers)
			speak(0, 1, 2)
			if away%2 == 0 {
				server.stop(t)
			} else {
				server.kill()
			}
			speak(next, (away+2)%len(f.servers))
			f.servers[next].kill() // it has tried in vain by now, or has not
			f.servers[next].start(t)
			server.start(t)
			speak(0, 1, 2)
		}
		m.arrive(t)
	})
}

// TestFederationToDeviceKill9 kills servers while all of them send messages to devices, and clients fetch them.
func TestFederationToDeviceKill9(t *testing.T) {
	t.Parallel()
	eachMix(t, 3, func(t *testing.T, f *fleet) {
		dice := crashDice(t)
		m := newMail(t, f)
		for range *crashRounds {
			m.underFire(t, dice)
		}
		m.arrive(t)
	})
}

// underFire has everybody send and fetch, and kills a server meanwhile.
func (m *mail) underFire(t *testing.T, dice *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), settleTime)
	defer cancel()
	var senders, readers sync.WaitGroup
	var sent atomic.Int64
	for i := range m.all {
		senders.Go(func() {
			for range 2 * fireMin {
				m.post(ctx, t, i)
				sent.Add(1)
			}
		})
	}
	reading, stop := context.WithCancel(ctx)
	for _, w := range m.all {
		readers.Go(func() {
			for reading.Err() == nil {
				if w.sync(reading, 50) != nil {
					time.Sleep(retryTime) // the answer is lost, and the client asks again with the token it has
				}
			}
		})
	}
	for sent.Load() < int64(len(m.all)*fireMin) && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Duration(dice.IntN(50_000)) * time.Microsecond) // the moment is what the test is about
	victim := m.servers[dice.IntN(len(m.servers))]
	victim.kill()
	victim.start(t)
	senders.Wait()
	stop()
	readers.Wait()
}
