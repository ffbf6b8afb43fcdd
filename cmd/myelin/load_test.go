package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	loadSenders = 64
	loadRooms   = 4
	retryTime   = 50 * time.Millisecond // how long a client waits before it tries again
)

// message is one send of a sender: the same again has the same transaction.
type message struct {
	room, sender string
	seq          int
}

func (m message) body() string {
	return fmt.Sprintf(`{"msgtype":"m.text","body":"%s %d"}`, m.sender, m.seq)
}

func (m message) path() string { return inRoom(m.room, "/send/m.room.message/t%d", m.seq) }

// load is many senders in several rooms, with a log of what the server has acknowledged.
type load struct {
	senders []session
	rooms   []string
	filler  string // makes the messages longer
	// refused is asked about each answer that is no success. A sender goes on with the same message if it returns true,
	// and stops otherwise.
	refused func(message, reply, error) bool

	mu      sync.Mutex
	acked   map[message]string // event ID
	pending map[string]message // by sender: sent, but not acknowledged
	next    map[string]int     // sequence number of a sender

	acks  atomic.Int64
	moved chan struct{} // something was acknowledged
}

// newLoad makes the users and the rooms, all users in all rooms.
func newLoad(t *testing.T, base string) *load {
	t.Helper()
	l := &load{
		acked: map[message]string{}, pending: map[string]message{}, next: map[string]int{},
		senders: make([]session, loadSenders), moved: make(chan struct{}, 1),
		refused: func(m message, r reply, err error) bool {
			if err == nil {
				t.Errorf("%v: got %d %v", m, r.status, r.body)
			}
			return false
		},
	}
	owner := mustRegister(t, base, "owner")
	for range loadRooms {
		l.rooms = append(l.rooms, owner.must(t, "POST", "/createRoom", `{"preset":"public_chat"}`).text("room_id"))
	}
	group, ctx := errgroup.WithContext(t.Context())
	for i := range l.senders {
		group.Go(func() (err error) {
			if l.senders[i], err = register(ctx, base, fmt.Sprintf("sender%d", i)); err != nil {
				return err
			}
			for _, room := range l.rooms {
				r, err := l.senders[i].ask(ctx, "POST", inRoom(room, "/join"), `{}`)
				if err != nil || r.status != http.StatusOK {
					return fmt.Errorf("join: got %d %v and %v", r.status, r.body, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return l
}

// run sends until ctx ends or every sender has stopped.
func (l *load) run(ctx context.Context) {
	var group sync.WaitGroup
	for i, s := range l.senders {
		group.Go(func() {
			for l.sendNext(ctx, s, i) {
			}
		})
	}
	group.Wait()
}

// sendNext sends what is pending, or the next message.
func (l *load) sendNext(ctx context.Context, s session, i int) (more bool) {
	m := l.choose(s, i)
	r, err := s.ask(ctx, "PUT", m.path(), strings.Replace(m.body(), `{`, `{"filler":"`+l.filler+`",`, 1))
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil || r.status != http.StatusOK:
		return l.refused(m, r, err)
	}
	l.acknowledge(m, r.text("event_id"))
	return true
}

func (l *load) choose(s session, i int) message {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, ok := l.pending[s.user]; ok {
		return m
	}
	seq := l.next[s.user]
	l.next[s.user]++
	m := message{l.rooms[(i+seq)%len(l.rooms)], s.user, seq}
	l.pending[s.user] = m
	return m
}

func (l *load) acknowledge(m message, id string) {
	l.mu.Lock()
	l.acked[m] = id
	delete(l.pending, m.sender)
	l.mu.Unlock()
	l.acks.Add(1)
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// waitFor waits until n more messages are acknowledged.
func (l *load) waitFor(t *testing.T, n int64) {
	t.Helper()
	goal := l.acks.Load() + n
	timeout := time.After(2 * time.Minute)
	for l.acks.Load() < goal {
		select {
		case <-l.moved:
		case <-timeout:
			t.Fatalf("%d messages are acknowledged after two minutes, want %d", l.acks.Load(), goal)
		}
	}
}

// stored is a room as a client sees it.
type stored struct {
	id string
	m  message
}

// walk reads a room to its end, in its order.
func walk(t *testing.T, s session, room, direction string) []stored {
	t.Helper()
	var all []stored
	seen := map[string]bool{}
	from := ""
	for {
		r := s.must(t, "GET", inRoom(room, "/messages?limit=500&dir=%s&from=%s", direction, url.QueryEscape(from)), "")
		for _, e := range r.body["chunk"].([]any) {
			e := storedOf(room, e.(map[string]any))
			if seen[e.id] {
				t.Errorf("/messages of %s tells %s (%v) twice", room, e.id, e.m)
			}
			seen[e.id] = true
			all = append(all, e)
		}
		if from = r.text("end"); from == "" {
			break
		}
	}
	if direction == "b" {
		slices.Reverse(all)
	}
	return all
}

// storedOf reads an event; what is no message of the load has no sequence number.
func storedOf(room string, e map[string]any) stored {
	out := stored{id: e["event_id"].(string), m: message{room: room, sender: e["sender"].(string), seq: -1}}
	content, _ := e["content"].(map[string]any)
	body, _ := content["body"].(string)
	if e["type"] == "m.room.message" {
		_, _ = fmt.Sscanf(body, out.m.sender+" %d", &out.m.seq) // others stay -1
	}
	return out
}

// settled walks a room until two walks meet the same: requests that were given up may be stored a moment later.
func (l *load) settled(t *testing.T, room string) []stored {
	t.Helper()
	timeline := walk(t, l.senders[0], room, "f")
	for range 50 {
		again := walk(t, l.senders[0], room, "f")
		if slices.Equal(again, timeline) {
			break
		}
		timeline = again
		time.Sleep(retryTime)
	}
	return timeline
}

// check holds the rooms against the log, and returns what is there by message.
func (l *load) check(t *testing.T, when string) map[message]string {
	t.Helper()
	found := map[message]string{}
	for _, room := range l.rooms {
		timeline := l.settled(t, room)
		if back := walk(t, l.senders[0], room, "b"); !slices.Equal(back, timeline) {
			t.Errorf("%s: %s has %d events walked forwards, and not the same %d backwards", when, room, len(timeline), len(back))
		}
		last := map[string]int{}
		for _, e := range timeline {
			if e.m.seq < 0 {
				continue
			}
			if other, twice := found[e.m]; twice {
				t.Errorf("%s: %v is there twice, as %s and %s", when, e.m, other, e.id)
			}
			if before, ok := last[e.m.sender]; ok && before > e.m.seq {
				t.Errorf("%s: %v comes after %d of the same sender", when, e.m, before)
			}
			found[e.m], last[e.m.sender] = e.id, e.m.seq
		}
	}
	lost := 0
	for m, id := range l.acked {
		if found[m] != id {
			if lost++; lost <= 10 {
				t.Errorf("%s: %v was acknowledged as %s, and is there as %q", when, m, id, found[m])
			}
		}
	}
	if extra := len(found) - (len(l.acked) - lost); extra > len(l.pending) {
		t.Errorf("%s: %d messages are there that were not acknowledged, and %d only were sent", when, extra, len(l.pending))
	}
	return found
}

// repeat sends once more what was not acknowledged, and some of what was: nothing may be doubled.
func (l *load) repeat(t *testing.T, found map[message]string) {
	t.Helper()
	for _, s := range l.senders {
		if m, ok := l.pending[s.user]; ok {
			id := s.must(t, "PUT", m.path(), m.body()).text("event_id")
			if before := found[m]; before != "" && before != id {
				t.Errorf("%v is stored as %s, and repeated it became %s", m, before, id)
			}
			l.acked[m] = id
			delete(l.pending, s.user)
		}
	}
	repeated := map[string]bool{}
	for m, id := range maps.All(l.acked) {
		if repeated[m.sender] {
			continue
		}
		repeated[m.sender] = true
		i := slices.IndexFunc(l.senders, func(s session) bool { return s.user == m.sender })
		if again := l.senders[i].must(t, "PUT", m.path(), m.body()).text("event_id"); again != id {
			t.Errorf("%v was acknowledged as %s, and repeated it became %s", m, id, again)
		}
	}
}

// reader follows the rooms by /sync, and fills the gaps as a client does.
type reader struct {
	session
	since string
	seen  map[string]bool // event IDs
}

// newReader makes a user in all rooms, and what it has seen.
func newReader(t *testing.T, l *load, base string) *reader {
	t.Helper()
	r := &reader{session: mustRegister(t, base, "reader"), seen: map[string]bool{}}
	for _, room := range l.rooms {
		r.must(t, "POST", inRoom(room, "/join"), `{}`)
		for _, e := range walk(t, r.session, room, "f") {
			r.seen[e.id] = true
		}
	}
	r.since = r.must(t, "GET", "/sync", "").text("next_batch")
	return r
}

// errAway says that the server answers 503: it cannot reach its database.
var errAway = errors.New("the server is unavailable")

// follow reads until ctx ends or the server is gone.
func (r *reader) follow(ctx context.Context, t *testing.T) {
	for {
		_, err := r.step(ctx, t, 1000)
		switch {
		case errors.Is(err, errAway):
			time.Sleep(retryTime)
		case err != nil:
			return
		}
	}
}

// catchUp reads until there is nothing new.
func (r *reader) catchUp(t *testing.T) {
	t.Helper()
	for {
		n, err := r.step(t.Context(), t, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// step makes one sync, and returns how many events were new.
func (r *reader) step(ctx context.Context, t *testing.T, timeoutMS int) (fresh int, err error) {
	const filter = `{"room":{"timeline":{"limit":200}}}`
	query := url.Values{"since": {r.since}, "timeout": {fmt.Sprint(timeoutMS)}, "filter": {filter}}
	answer, err := r.ask(ctx, "GET", "/sync?"+query.Encode(), "")
	if err != nil {
		return 0, err
	}
	if err := answered(answer); err != nil {
		if !errors.Is(err, errAway) {
			t.Errorf("/sync: %v", err)
		}
		return 0, err
	}
	rooms, _ := answer.body["rooms"].(map[string]any)
	joined, _ := rooms["join"].(map[string]any)
	told := map[string]bool{}
	for room, data := range joined {
		timeline, _ := data.(map[string]any)["timeline"].(map[string]any)
		events, _ := timeline["events"].([]any)
		for _, e := range events {
			id := e.(map[string]any)["event_id"].(string)
			if r.seen[id] || told[id] {
				t.Errorf("/sync tells %s of %s twice", id, room)
			}
			told[id] = true
		}
		if timeline["limited"] == true {
			if err := r.fill(ctx, room, timeline["prev_batch"].(string), told); err != nil {
				return 0, err // the token stays the old one: all of it comes again
			}
		}
	}
	maps.Copy(r.seen, told)
	r.since = answer.text("next_batch")
	return len(told), nil
}

// fill reads backwards until what was seen before.
func (r *reader) fill(ctx context.Context, room, from string, told map[string]bool) error {
	for from != "" {
		page, err := r.ask(ctx, "GET", inRoom(room, "/messages?dir=b&limit=200&from=%s", url.QueryEscape(from)), "")
		if err != nil {
			return err
		}
		if err := answered(page); err != nil {
			return err
		}
		for _, e := range page.body["chunk"].([]any) {
			id := e.(map[string]any)["event_id"].(string)
			if r.seen[id] {
				return nil
			}
			told[id] = true
		}
		from = page.text("end")
	}
	return nil
}

// answered is nil for a success.
func answered(r reply) error {
	switch r.status {
	case http.StatusOK:
		return nil
	case http.StatusServiceUnavailable:
		return errAway
	}
	return fmt.Errorf("got %d %v", r.status, r.body)
}

// check reports what was stored and not told.
func (r *reader) check(t *testing.T, found map[message]string) {
	t.Helper()
	missing := 0
	for m, id := range found {
		if !r.seen[id] {
			if missing++; missing <= 5 {
				t.Errorf("/sync from an old token does not tell %s (%v)", id, m)
			}
		}
	}
}
