package keys_test

import (
	"bytes"
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
