package syncapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

// login makes a device of a user, and the user if there is none.
func (w *world) login(t failer, u matrix.UserID, device string) *client {
	t.Helper()
	session := users.Session{Device: matrix.DeviceID(device)}
	copy(session.Token[:], string(u)+device)
	known, err := users.Exists(ctx, w.db, u)
	if err == nil && known {
		_, err = w.db.Commit(ctx, users.Login{User: u, Session: session})
	} else if err == nil {
		_, err = w.db.Commit(ctx, users.Create{User: users.User{ID: u}, Session: &session})
	}
	if err != nil {
		t.Fatalf("log %s in: %v", u, err)
	}
	return newClient(u, device, 0, 8)
}

var transactions atomic.Int64

// post sends a message to devices, each given as "@user:test DEVICE".
func (w *world) post(t failer, text string, to ...string) {
	t.Helper()
	all := accounts.DeviceMessages{}
	for _, address := range to {
		user, device, _ := strings.Cut(address, " ")
		if all[matrix.UserID(user)] == nil {
			all[matrix.UserID(user)] = map[matrix.DeviceID]json.RawMessage{}
		}
		all[matrix.UserID(user)][matrix.DeviceID(device)] = fmt.Appendf(nil, `{"body":%q}`, text)
	}

	err := w.acc.SendToDevice(ctx, who("@sender:test"), accounts.ToDevice{
		Type: "m.test", TxnID: strconv.FormatInt(transactions.Add(1), 10), Messages: all,
	})
	if err != nil {
		t.Fatalf("send %s: %v", text, err)
	}
}

// letters asks for news and returns the messages to the client's device. It takes the token, unless the answer is lost.
func (w *world) letters(t failer, c *client, lost bool, q query) []string {
	t.Helper()
	a := w.askAs(t, c, q)
	if !lost {
		c.token = a.NextBatch
	}
	for _, e := range a.ToDevice.Events {
		if e.Type != "m.test" || e.Sender != "@sender:test" {
			t.Fatalf("%s got %+v, want an m.test of the sender", c.device, e)
		}
	}
	return bodies(a.ToDevice.Events)
}

// stored returns how many messages wait for a client, as the database has them.
func (w *world) stored(c *client) int {
	by := who(c.user)
	by.Device = matrix.DeviceID(c.device)
	list, err := w.acc.Inbox(ctx, by, storage.Span{UpTo: w.db.Position()}, 10_000)
	must(w.t, err)
	return len(list)
}

func TestToDevice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		phone, laptop := w.login(t, alice, "PHONE"), w.login(t, alice, "LAPTOP")
		w.post(t, "early", "@alice:test *")
		want(t, "the first sync", w.letters(t, phone, true, nil), "early")
		want(t, "the first sync, again", w.letters(t, phone, false, nil), "early")
		w.post(t, "one", "@alice:test PHONE")
		w.post(t, "two", "@alice:test PHONE", "@alice:test LAPTOP", "@alice:test OTHER")
		for i := range 3 {
			want(t, fmt.Sprint("lost, time ", i), w.letters(t, phone, true, nil), "one", "two")
			w.restart()
		}
		if got := w.stored(phone); got != 2 {
			t.Errorf("after the token that has the first: %d wait, want 2", got)
		}
		want(t, "taken", w.letters(t, phone, false, nil), "one", "two")
		if got := w.stored(phone); got != 2 {
			t.Errorf("before the client has come back: %d wait, want 2", got)
		}
		w.restart()
		want(t, "acknowledged", w.letters(t, phone, false, nil))
		if got := w.stored(phone); got != 0 {
			t.Errorf("acknowledged: %d wait, want none", got)
		}
		phone.token = ""
		want(t, "from the beginning", w.letters(t, phone, false, nil))
		want(t, "another device", w.letters(t, laptop, false, nil), "early", "two")
		w.post(t, "three", "@alice:test *")
		laptop.token = ""
		want(t, "a client that lost its token", w.letters(t, laptop, false, nil), "early", "two", "three")
		want(t, "who has no device", w.letters(t, newClient(alice, "", 0, 8), false, nil))
	})
}

// Who waits is told at once, and nobody else is.
func TestToDeviceEndsAWait(t *testing.T) {
	w := newWorld(t, "sqlite")
	phone, other := w.login(t, alice, "PHONE"), w.login(t, bob, "B")
	w.letters(t, phone, false, nil)
	w.letters(t, other, false, nil)
	got, quiet := make(chan []string, 1), make(chan []string, 1)
	go func() { got <- w.letters(t, phone, false, query{"timeout": "60000"}) }()
	go func() { quiet <- w.letters(t, other, false, query{"timeout": "200"}) }()
	time.Sleep(20 * time.Millisecond) // so that it most likely waits; it is as right if it does not
	w.post(t, "wake up", "@alice:test PHONE")
	select {
	case letters := <-got:
		want(t, "who waits", letters, "wake up")
	case <-time.After(patience):
		t.Fatal("who waits was not told")
	}
	want(t, "who is not meant", <-quiet)
}

// More than fits into an answer comes in the next ones, which do not wait.
func TestToDeviceInPages(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		phone := w.login(t, alice, "PHONE")
		w.letters(t, phone, false, nil)
		var sent []string
		for i := range 250 {
			sent = append(sent, fmt.Sprint("message ", i))
			w.post(t, sent[i], "@alice:test PHONE")
		}
		for i, part := range [][]string{sent[:100], sent[100:200], sent[200:]} {
			start := time.Now()
			if i == 1 {
				want(t, "a page that is lost", w.letters(t, phone, true, query{"timeout": "60000"}), part...)
				w.restart()
			}
			want(t, fmt.Sprint("page ", i), w.letters(t, phone, false, query{"timeout": "60000"}), part...)
			if got, left := w.stored(phone), 250-100*i; got != left {
				t.Errorf("after page %d: %d wait, want %d", i, got, left)
			}
			if took := time.Since(start); took > patience {
				t.Errorf("page %d took %v", i, took)
			}
		}
		want(t, "after the last page", w.letters(t, phone, false, nil))
	})
}

// Large messages come a few at a time.
func TestToDeviceLarge(t *testing.T) {
	w := newWorld(t, "sqlite")
	phone := w.login(t, alice, "PHONE")
	for i := range 50 {
		w.post(t, fmt.Sprint(i, strings.Repeat("x", 60<<10)), "@alice:test PHONE")
	}
	pages, taken := 0, 0
	for {
		page := w.letters(t, phone, false, nil)
		if len(page) == 0 {
			break
		}
		for _, text := range page {
			if number := strings.TrimRight(text, "x"); number != fmt.Sprint(taken) {
				t.Fatalf("got message %s, want %d", number, taken)
			}
			taken++
		}
		pages++
	}
	if pages != 2 || taken != 50 {
		t.Errorf("got %d messages in %d answers, want 50 in 2", taken, pages)
	}
}

// A client that makes its token up harms nobody, itself least.
func TestToDeviceForgedToken(t *testing.T) {
	w := newWorld(t, "sqlite")
	phone := w.login(t, alice, "PHONE")
	w.post(t, "still there", "@alice:test PHONE")
	a := w.askAs(t, phone, nil)
	parts := strings.Split(a.NextBatch, "_")
	parts[2] = "999999999"
	phone.token = strings.Join(parts, "_")
	want(t, "with a token from the future", w.letters(t, phone, false, nil), "still there")
}

// A device that is removed takes its messages with it, and one that is made under its name afterwards gets new ones only.
func TestToDeviceOfARemovedDevice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		phone := w.login(t, alice, "PHONE")
		w.post(t, "old", "@alice:test PHONE")
		want(t, "before", w.letters(t, phone, false, nil), "old")
		_, err := w.db.Commit(ctx, users.RemoveDevices{User: alice, Devices: []matrix.DeviceID{"PHONE"}})
		must(t, err)
		w.post(t, "for nobody", "@alice:test PHONE")
		phone = w.login(t, alice, "PHONE")
		w.post(t, "new", "@alice:test PHONE")
		want(t, "after", w.letters(t, phone, false, nil), "new")
	})
}

// reader is a device whose client takes what it is told and forgets what it has not acknowledged when it begins afresh.
type reader struct {
	*client
	sent, got []string
	acked     int // of got, when the client last came back
}

// TestToDeviceOnceAndInOrder sends to devices at random, and lets their clients lose answers and tokens, and the server
// its memory.
func TestToDeviceOnceAndInOrder(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		plays := 0
		rapid.Check(t, func(rt *rapid.T) {
			plays++
			m := newMail(rt, w, plays)
			rt.Repeat(m.actions())
			for _, r := range m.readers {
				for m.read(rt, r, false) > 0 {
				}
				if !slices.Equal(r.got, r.sent) {
					rt.Fatalf("%s %s: got %q, want %q", r.user, r.device, r.got, r.sent)
				}
				if left := w.stored(r.client); left != 0 {
					rt.Fatalf("%s %s has all, and %d wait", r.user, r.device, left)
				}
			}
		})
	})
}

// mail is one random history of messages to devices.
type mail struct {
	w       *world
	readers []*reader
	counter int
}

func newMail(rt *rapid.T, w *world, play int) *mail {
	m := &mail{w: w}
	for i := range 2 {
		for _, device := range []string{"A", "B"} {
			u := matrix.UserID(fmt.Sprintf("@mail%d-%d:test", play, i))
			m.readers = append(m.readers, &reader{client: w.login(rt, u, device)})
		}
	}
	return m
}

func (m *mail) actions() map[string]func(*rapid.T) {
	one := func(rt *rapid.T) *reader { return rapid.SampledFrom(m.readers).Draw(rt, "device") }
	sync := func(rt *rapid.T) { m.read(rt, one(rt), rapid.IntRange(0, 2).Draw(rt, "lost") == 0) }
	return map[string]func(*rapid.T){
		"send": func(rt *rapid.T) {
			for range rapid.IntRange(1, 3).Draw(rt, "messages") {
				m.send(rt, one(rt), one(rt))
			}
		},
		"send many": func(rt *rapid.T) {
			m.sendMany(rt, one(rt), rapid.IntRange(1, 130).Draw(rt, "messages"))
		},
		"send to all": func(rt *rapid.T) {
			r := one(rt)
			text := m.text()
			for _, other := range m.readers {
				if other.user == r.user {
					other.sent = append(other.sent, text)
				}
			}
			m.w.post(rt, text, string(r.user)+" *")
		},
		"sync": sync, "sync again": sync, "sync once more": sync,
		"begin afresh": func(rt *rapid.T) {
			r := one(rt)
			r.token, r.got = "", r.got[:r.acked]
		},
		"restart": func(*rapid.T) { m.w.restart() },
		"miss":    func(*rapid.T) { m.w.api.Miss() },
		"sweep":   func(*rapid.T) { m.w.api.Sweep(time.Now().Add(time.Hour)) },
	}
}

func (m *mail) text() string {
	m.counter++
	return fmt.Sprint("message ", m.counter)
}

func (m *mail) send(rt *rapid.T, to ...*reader) {
	text := m.text()
	var addresses []string
	for _, r := range to {
		address := string(r.user) + " " + r.device
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
			r.sent = append(r.sent, text)
		}
	}
	m.w.post(rt, text, addresses...)
}

// sendMany sends a device messages at once, as another server may: more than go into an answer.
func (m *mail) sendMany(rt *rapid.T, to *reader, n int) {
	var all storage.All
	for range n {
		text := m.text()
		to.sent = append(to.sent, text)
		all = append(all, users.SendToDevice{
			Key: transactions.Add(1), Sender: "@sender:test", Type: "m.test", Letters: []users.Letter{{
				To:      users.Address{User: to.user, Device: matrix.DeviceID(to.device)},
				Content: fmt.Appendf(nil, `{"body":%q}`, text),
			}},
		})
	}
	if _, err := m.w.db.Commit(ctx, all); err != nil {
		rt.Fatalf("send %d messages: %v", n, err)
	}
}

// read lets a client sync once, and returns how many messages it was given.
func (m *mail) read(rt *rapid.T, r *reader, lost bool) int {
	if r.token != "" {
		r.acked = len(r.got)
	}
	letters := m.w.letters(rt, r.client, lost, query{"set_presence": "offline"})
	if !lost {
		r.got = append(r.got, letters...)
	}
	return len(letters)
}
