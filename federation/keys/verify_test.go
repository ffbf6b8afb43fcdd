package keys_test

import (
	"bytes"
	"fmt"
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
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// Which keys may sign an event of which time, before and after room version 5: CVE-2024-6299.
// https://spec.matrix.org/v1.19/rooms/v5/#signing-key-validity-period
func TestCVE_2024_6299_Validity(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name     string
		version  matrix.RoomVersion
		valid    time.Duration // of what is published
		at       time.Duration // of the event, from now
		old      bool          // signed with a key that expired an hour ago
		expected string
	}{
		{"now", "10", day, 0, false, right},
		{"years ago", "10", day, -1000 * day, false, right},
		{"just valid", "10", day, day, false, right},
		{"later than valid", "10", day, day + time.Millisecond, false, wrong},
		{"later than valid, version 4", "4", day, day + time.Millisecond, false, right},
		{"key that ended in the past", "10", -day, 0, false, wrong},
		{"key that ended in the past, event before", "10", -day, -2 * day, false, right},
		{"key that ended in the past, version 1", "1", -day, 0, false, right},
		{"said to be valid for ever, within a week", "10", 10000 * day, 7 * day, false, right},
		{"said to be valid for ever, after a week", "10", 10000 * day, 7*day + time.Millisecond, false, wrong},
		{"said to be valid for ever, version 2", "2", 10000 * day, 9 * day, false, right},
		{"old key, before its end", "10", day, -time.Hour, true, right},
		{"old key, after its end", "10", day, -time.Hour + time.Millisecond, true, wrong},
		{"old key, after its end, version 3", "3", day, 0, true, right},
		{"version 12", "12", day, 0, false, right},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.peer("a.example", 7)
			p.valid = test.valid
			signer := *p
			if test.old {
				signer.key = newKey(t, "ed25519:old", 8)
				p.old["ed25519:old"] = map[string]any{
					"key": signing.EncodeBase64(signer.key.Public()), "expired_ts": start.Add(-time.Hour).UnixMilli(),
				}
			}
			check(t, "event", w.ring(), signer.event(test.version, start.Add(test.at)), test.expected)
		})
	}
}

// An old key whose end lies in the future must not get around the limit of a week.
func TestOldKeyOfTheFuture(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	signer := *p
	signer.key = newKey(t, "ed25519:old", 8)
	p.old["ed25519:old"] = map[string]any{
		"key": signing.EncodeBase64(signer.key.Public()), "expired_ts": start.Add(9999 * time.Hour).UnixMilli(),
	}
	r := w.ring()
	check(t, "event of now", r, signer.event("10", start), right)
	check(t, "event of later", r, signer.event("10", start.Add(time.Minute)), wrong)
}

func TestWrongSignatures(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("a.example", 7), w.peer("b.example", 8)
	r := w.ring()
	load := func(e *event.Event, replace ...string) *event.Event {
		t.Helper()
		again, err := event.Load(e.Version, e.ID, []byte(strings.NewReplacer(replace...).Replace(string(e.JSON))))
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	good := a.event("10", start)
	forged := *a
	forged.key = b.key
	unknown := *a
	unknown.key = newKey(t, "ed25519:other", 9)
	more := func(e *event.Event) *event.Event {
		t.Helper()
		signed, err := e.Sign("a.example", newKey(t, "ed25519:aa", 3))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	check(t, "as it was made", r, good, right)
	check(t, "a signature more, with a key that is not there", r, more(good), right)
	check(t, "two wrong signatures", r, more(forged.event("10", start)), wrong)
	check(t, "changed", r, load(good, `"depth":1`, `"depth":2`), wrong)
	check(t, "of another server's key", r, forged.event("10", start), wrong)
	check(t, "of a key that is not published", r, unknown.event("10", start), wrong)
	check(t, "signed by another server", r, load(good, `{"a.example":{"ed`, `{"b.example":{"ed`), wrong)
	check(t, "not signed", r, load(good, `"signatures":{"a.example"`, `"signatures":{"z.example"`), wrong)
	check(t, "with a key of another kind", r, load(good, `"ed25519:k":`, `"rsa:k":`), wrong)
}

// Every server that must sign has to: CVE-2019-18835.
func TestCVE_2019_18835_AllSigners(t *testing.T) {
	w := newWorld(t)
	a, b := w.peer("a.example", 7), w.peer("b.example", 8)
	r := w.ring()
	v, _ := event.VersionOf("10")
	e, err := event.Build(v, event.Proto{
		Type: event.TypeMember, StateKey: ptr("@u:a.example"), RoomID: "!r:us.example", Sender: "@u:a.example",
		Content: []byte(`{"membership":"join","join_authorised_via_users_server":"@v:b.example"}`), Depth: 1, OriginServerTS: start.UnixMilli(),
	}, a.name, a.key)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "without the server that vouches", r, e, wrong)
	if e, err = e.Sign(b.name, b.key); err != nil {
		t.Fatal(err)
	}
	check(t, "with it", r, e, right)
}

func ptr(s string) *string { return &s }

// Many events of many servers at once: each server is asked once, and each event gets its own answer.
func TestBatch(t *testing.T) {
	w := newWorld(t)
	var events []*event.Event
	var want []string
	for i := range 30 {
		p := w.peer(matrix.ServerName(fmt.Sprintf("s%d.example", i)), byte(i+10))
		for j := range 5 {
			signer, expected := *p, right
			if i%7 == 3 {
				expected = unavailable
			} else if j == 4 {
				signer.key = newKey(t, "ed25519:k", 200)
				expected = wrong
			}
			events = append(events, signer.event("10", start))
			want = append(want, expected)
		}
		if i%7 == 3 {
			w.down(p.name)
		}
	}
	r := w.ring()
	for i, err := range r.VerifyEvents(t.Context(), events) {
		if got := outcome(err); got != want[i] {
			t.Errorf("event %d of %s: got %s (%v), want %s", i, events[i].Sender, got, err, want[i])
		}
	}
	for i := range 30 {
		name := matrix.ServerName(fmt.Sprintf("s%d.example", i))
		if got := w.requests(name); i%7 != 3 && got != 1 {
			t.Errorf("%s was asked %d times, want once", name, got)
		}
	}
	if errs := r.VerifyEvents(t.Context(), nil); len(errs) != 0 {
		t.Errorf("no events: got %v, want nothing", errs)
	}
}

// Every answer to a question for keys that is not an honest one, by a server or by who sits in between.
func TestHostileDocuments(t *testing.T) {
	w := newWorld(t)
	other := w.peer("other.example", 50)
	change := func(key string, value any) func(*peer) []byte {
		return func(p *peer) []byte {
			fields := p.fields()
			fields[key] = value
			return p.sign(fields)
		}
	}
	text := func(s string) func(*peer) []byte { return func(*peer) []byte { return []byte(s) } }
	tests := []struct {
		name     string
		document func(p *peer) []byte
	}{
		{"not JSON", text(`<html>`)},
		{"empty", text(``)},
		{"null", text(`null`)},
		{"no object", text(`[]`)},
		{"keys of another server", func(*peer) []byte { return other.document() }},
		{"in the name of another server", change("server_name", "other.example")},
		{"no name", change("server_name", 1)},
		{"no validity", change("valid_until_ts", nil)},
		{"validity as text", change("valid_until_ts", "1")},
		{"no keys", change("verify_keys", map[string]any{})},
		{"keys that are none", change("verify_keys", []string{"x"})},
		{"changed after it was signed", func(p *peer) []byte {
			return bytes.Replace(p.document(), []byte(`"valid_until_ts":`), []byte(`"valid_until_ts":1`), 1)
		}},
		{"signed with a key that it does not list", func(p *peer) []byte {
			signer := *p
			signer.key = newKey(t, "ed25519:z", 99)
			return signer.sign(p.fields())
		}},
		{"signed with another key of that name", func(p *peer) []byte {
			signer := *p
			signer.key = newKey(t, "ed25519:k", 99)
			return signer.sign(p.fields())
		}},
		{"huge", func(p *peer) []byte { return append(p.document(), bytes.Repeat([]byte(" "), 64<<10)...) }},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := w.peer(matrix.ServerName(fmt.Sprintf("p%d.example", i)), 7)
			w.serve(p.name, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(test.document(p)) })
			check(t, "event", w.ring(), p.event("10", start), unavailable)
		})
	}
}

// A key whose private half is known to the public signs nothing: CVE-2026-24044.
func TestCVE_2026_24044_BannedKey(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	fields := p.fields()
	fields["verify_keys"] = map[string]any{
		"ed25519:k": map[string]string{"key": signing.EncodeBase64(p.key.Public())},
		"ed25519:b": map[string]string{"key": "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og"},
	}
	fields["old_verify_keys"] = map[string]any{
		"ed25519:c": map[string]any{"key": "l_O9hxMVKB6Lg-3Hqf0FQQZhVESQcMzbPN1Cz2nM3og=", "expired_ts": 1},
	}
	_, inUse, retired, err := keys.ParseDocument(p.sign(fields), start)
	if err != nil || inUse != 1 || retired != 0 {
		t.Errorf("got %d keys in use and %d old ones, %v, want 1 and 0", inUse, retired, err)
	}
}

func TestVerifyObjects(t *testing.T) {
	w := newWorld(t)
	p := w.peer("a.example", 7)
	obj := p.sign(map[string]any{"x": 1})
	now := start.UnixMilli()
	objects := []keys.Object{
		{JSON: obj, Server: p.name, AtMS: now},
		{JSON: bytes.Replace(obj, []byte(`"x":1`), []byte(`"x":2`), 1), Server: p.name, AtMS: now},
		{JSON: obj, Server: "b.example", AtMS: now},
		{JSON: []byte(`{`), Server: p.name},
		{JSON: obj, Server: p.name, AtMS: start.Add(48 * time.Hour).UnixMilli()},
		{JSON: obj, Server: p.name},
	}
	want := []string{right, wrong, wrong, "M_BAD_JSON: what is signed is not JSON", wrong, right}
	for i, err := range w.ring().VerifyObjects(t.Context(), objects) {
		if got := outcome(err); got != want[i] {
			t.Errorf("object %d: got %s (%v), want %s", i, got, err, want[i])
		}
	}
}

// Our own events are checked without asking anybody, those of keys that we used before, too.
func TestOwnSignatures(t *testing.T) {
	w := newWorld(t)
	db := storagetest.Open(t, storagetest.SQLite)
	s := w.settings(db)
	self := &peer{w: w, name: us, key: s.Key}
	r := newRing(t, s)
	check(t, "our key", r, self.event("10", start), right)
	s.Key = newKey(t, "ed25519:next", 2)
	w.pass(time.Hour)
	r = newRing(t, s)
	check(t, "our old key", r, self.event("10", start), right)
	check(t, "our old key, after its end", r, self.event("10", start.Add(2*time.Hour)), wrong)
	self.key = newKey(t, "ed25519:x", 3)
	check(t, "a key that is not ours", r, self.event("10", start), wrong)
}

func TestPool(t *testing.T) {
	var running, most, done atomic.Int64
	keys.Each(3, 200, func(int) {
		now := running.Add(1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		done.Add(1)
		running.Add(-1)
	})
	if done.Load() != 200 || most.Load() > 3 {
		t.Errorf("got %d calls, %d of them at once, want 200 and at most 3", done.Load(), most.Load())
	}
	defer func() {
		if got := recover(); got != "helper" {
			t.Errorf("got %v, want the panic of a helper where the caller can recover", got)
		}
	}()
	var met sync.WaitGroup
	met.Add(2)
	keys.Each(2, 2, func(i int) {
		met.Done()
		met.Wait() // so a helper has one of them
		if i == 1 {
			panic("helper")
		}
	})
}

// batch is n events of ten servers, and a ring that knows their keys.
func batch(b *testing.B, n int) (*keys.Ring, []*event.Event) {
	w := newWorld(b)
	peers := make([]*peer, 10)
	for i := range peers {
		peers[i] = w.peer(matrix.ServerName(fmt.Sprintf("s%d.example", i)), byte(i+10))
	}
	events := make([]*event.Event, n)
	for i := range events {
		events[i] = peers[i%10].event("10", start.Add(time.Duration(i)*time.Millisecond))
	}
	r := w.ring()
	for _, err := range r.VerifyEvents(b.Context(), events) {
		if err != nil {
			b.Fatal(err)
		}
	}
	return r, events
}

func BenchmarkVerifyEvents(b *testing.B) {
	for _, n := range []int{1, 50, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, events := batch(b, n)
			b.ReportAllocs()
			for b.Loop() {
				r.VerifyEvents(b.Context(), events)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/event")
		})
	}
}
