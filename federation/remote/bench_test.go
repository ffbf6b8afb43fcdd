package remote_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// ringVerifier is the verifier of the server, with the keys that the scripted server publishes for all names.
type ringVerifier struct{ *keys.Ring }

func (v ringVerifier) VerifyObject(ctx context.Context, obj []byte, by matrix.ServerName, atMS int64) error {
	return v.VerifyObjects(ctx, []keys.Object{{JSON: obj, Server: by, AtMS: atMS}})[0]
}

// withRing gives the world's client a real ring.
func (w *world) withRing() {
	w.t.Helper()
	ring, err := keys.New(context.Background(), keys.Settings{
		DB: storagetest.Open(w.t, storagetest.SQLite), Client: w.http, ServerName: us, Key: w.keys[us], Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.client = remote.New(remote.Settings{HTTP: w.http, Verifier: ringVerifier{ring}, Log: slog.New(slog.DiscardHandler)})
}

// publishing answers requests for keys, and leaves others to h.
func (w *world) publishing(h http.HandlerFunc) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_matrix/key/v2/server" {
			h(rw, r)
			return
		}
		server := matrix.ServerName(r.Host)
		key := w.keys[server]
		obj, err := canonical.Marshal(map[string]any{
			"server_name": server, "valid_until_ts": time.Now().Add(24 * time.Hour).UnixMilli(), "old_verify_keys": map[string]any{},
			"verify_keys": map[signing.KeyID]any{key.ID(): map[string]string{"key": signing.EncodeBase64(key.Public())}},
		})
		if err == nil {
			obj, err = signing.SignJSON(obj, server, key)
		}
		if err != nil {
			panic(err)
		}
		rw.Write(obj)
	}
}

// fill lets members join, of many servers.
func (r *room) fill(members int) {
	const servers = 64
	for i := range servers {
		s := matrix.ServerName(fmt.Sprintf("s%d.example", i))
		if _, ok := r.w.keys[s]; !ok {
			r.w.keys[s] = newKey(r.w.t, "ed25519:k", byte(100+i))
		}
	}
	for i := range members {
		user := fmt.Sprintf("@user%d:s%d.example", i, i%servers)
		r.add(event.Proto{
			Type: event.TypeMember, StateKey: &user, Sender: matrix.UserID(user), RoomID: r.id,
			Content: fmt.Appendf(nil, `{"membership":"join","displayname":"User %d","avatar_url":"mxc://s.example/%032d"}`, i, i),
		})
	}
}

func benchmarkSendJoin(b *testing.B, members int) {
	w := newWorld(b)
	w.withRing()
	r := w.room("11")
	r.fill(members)
	text := mustJSON(b, r.joinAnswer(nil))
	w.script(w.publishing(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(text) }))
	join := r.member(joins)
	ask := func() remote.JoinAnswer {
		got, err := w.client.SendJoin(b.Context(), them, remote.JoinRequest{Join: join})
		if err != nil {
			b.Fatal(err)
		}
		if len(got.State) != members+4 {
			b.Fatalf("got %d events of state, refused %+v; want %d", len(got.State), got.Refused, members+4)
		}
		return got
	}
	ask() // learns the keys
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*members), "µs/member")
}

// The answer of a room of 5,000 members, received, parsed and verified.
func BenchmarkSendJoin5000(b *testing.B) { benchmarkSendJoin(b, 5000) }

// The same of a room of 20,000 members.
func BenchmarkSendJoin20000(b *testing.B) { benchmarkSendJoin(b, 20_000) }

// For comparison: as many bare checks of signatures as the answer of a room of 5,000 members has.
func BenchmarkSendJoin5000Signatures(b *testing.B) {
	key := newKey(b, "ed25519:k", 1)
	msg := bytes.Repeat([]byte("x"), 600)
	sig := key.Sign(msg)
	for b.Loop() {
		for range 5004 {
			if !ed25519.Verify(key.Public(), msg, sig) {
				b.Fatal("wrong")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*5000), "µs/member")
}

// For comparison: reading the events of the answer without checking signatures.
func BenchmarkSendJoin5000Parse(b *testing.B) {
	w := newWorld(b)
	r := w.room("11")
	r.fill(5000)
	list := raws(r.events...)
	b.ReportAllocs()
	for b.Loop() {
		for _, raw := range list {
			if _, err := event.Parse(r.version, raw); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*5000), "µs/member")
}

// While an answer is read there is not much more in memory than its events.
func TestSendJoinMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a room of 1,000 members")
	}
	const members = 1000
	w := newWorld(t)
	r := w.room("11")
	r.fill(members)
	text := mustJSON(t, r.joinAnswer(map[string]any{"auth_chain": []json.RawMessage{}}))
	// Most of the answer is of no use: were it held as a whole, it would show.
	const padding = 64 << 20
	page := bytes.Repeat([]byte("x"), 4096)
	w.script(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Write([]byte(`{"padding":"`))
		for range padding / len(page) {
			rw.Write(page)
		}
		rw.Write([]byte(`",`))
		rw.Write(text[1:])
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
	runtime.ReadMemStats(&after)
	if err != nil || len(got.State) != members+4 {
		t.Fatalf("got %d events, %v", len(got.State), err)
	}
	// What was allocated in all, the garbage of parsing and of the scripted server included.
	if used := after.TotalAlloc - before.TotalAlloc; used > padding {
		t.Errorf("allocated %d MB for an answer of %d MB with %d MB of events", used>>20, (padding+len(text))>>20, len(text)>>20)
	}
}
