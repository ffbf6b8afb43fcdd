package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/storage/storagetest"
	"golang.org/x/sync/errgroup"
)

// A gate stands before a server and holds up what others ask it for.
type gate struct {
	to http.Handler

	mu   sync.Mutex
	held map[string]chan struct{} // by endpoint: closed when it is let through
	came map[string]chan struct{} // by endpoint: closed when it was first asked for
}

// newGate answers at the address of a server's name for the server itself, which listens elsewhere.
func newGate(t *testing.T, f *fleet, s *fleetServer) *gate {
	t.Helper()
	to := &url.URL{Scheme: "https", Host: s.listens}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	g := &gate{to: proxy, held: map[string]chan struct{}{}, came: map[string]chan struct{}{}}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(f.dir, "cert.pem"), filepath.Join(f.dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(g)
	front.Listener.Close()
	front.Listener = listenAt(t, s.name)
	front.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	front.StartTLS()
	t.Cleanup(front.Close)
	return g
}

// hold holds up requests to an endpoint from now on. It returns what is closed when there is one.
func (g *gate) hold(endpoint string) (asked <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held[endpoint], g.came[endpoint] = make(chan struct{}), make(chan struct{})
	return g.came[endpoint]
}

// release lets through what is held up.
func (g *gate) release(endpoint string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.held[endpoint])
	delete(g.held, endpoint)
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	endpoint := ""
	if parts := strings.Split(r.URL.Path, "/"); len(parts) > 4 {
		endpoint = parts[4]
	}
	g.mu.Lock()
	held := g.held[endpoint]
	if came := g.came[endpoint]; came != nil {
		close(came)
		delete(g.came, endpoint)
	}
	g.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	g.to.ServeHTTP(w, r)
}

// crowd registers users and has them join a room.
func crowd(t *testing.T, s *fleetServer, room string, n int) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(8)
	for i := range n {
		group.Go(func() error {
			member, err := register(ctx, s.url, fmt.Sprintf("member%03d", i))
			if err != nil {
				return err
			}
			r, err := member.ask(ctx, "POST", "/join/"+url.PathEscape(room), `{}`)
			if err == nil {
				err = answered(r)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestLargeJoin joins a room of many members. The join is answered before any of them is told, and what is said meanwhile
// goes both ways. The server that joins is killed while it waits for the members, and while they come.
func TestLargeJoin(t *testing.T) {
	const members = 120
	for name, database := range map[string]func(*testing.T) string{"sqlite": onSQLite, "postgres": onPostgres} {
		t.Run(name, func(t *testing.T) {
			f := &fleet{dir: storagetest.Dir(t)}
			writeCertificate(t, f.dir)
			a, b := f.newServerBehind(t, "127.0.0.1", onSQLite(t), freePort(t)), f.newServer(t, "localhost", database(t))
			g := newGate(t, f, a)
			a.start(t)
			b.start(t)
			alice, bob := a.watcher(t, "alice"), b.watcher(t, "bob")
			bob.filter = `{"room":{"timeline":{"limit":500},"state":{"lazy_load_members":true}}}`
			room := alice.must(t, "POST", "/createRoom", `{"preset":"public_chat"}`).text("room_id")
			crowd(t, a, room, members)

			asked := g.hold("state_ids")
			bob.join(room, a)
			alice.sees(room, bob.user, "join")
			bob.sees(room, bob.user, "join")
			talk := func(what string) {
				t.Helper()
				alice.say(room, what+" by alice")
				bob.hears(room, what+" by alice")
				bob.say(room, what+" by bob")
				alice.hears(room, what+" by bob")
			}
			talk("before the members")
			waitFor(t, asked, "the members to be asked for")
			if isShown(t, bob, room) {
				t.Error("a client that wants all members is shown the room without them")
			}

			b.kill()
			b.start(t)
			talk("after the first kill")
			asked = g.hold("state")
			g.release("state_ids")
			waitFor(t, asked, "the state to be asked for")
			talk("while the state is held up")
			b.kill()
			g.release("state")
			b.start(t)
			talk("after the second kill")

			known := bob.must(t, "GET", inRoom(room, "/members"), "") // waits for them
			if n := len(listIn(known.body, "chunk")); n != members+2 {
				t.Errorf("got %d members, want %d", n, members+2)
			}
			if !isShown(t, bob, room) {
				t.Error("a client that wants all members is not shown the room with them")
			}
			talk("with all members")
			once(t, room, []*watcher{alice, bob})
		})
	}
}

func waitFor(t *testing.T, asked <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-asked:
	case <-t.Context().Done():
		t.Fatalf("waited for %s: %v", what, t.Context().Err())
	}
}

// isShown says whether a client that starts afresh, and wants all members, is shown a room.
func isShown(t *testing.T, w *watcher, room string) bool {
	t.Helper()
	rooms := objectIn(w.must(t, "GET", "/sync?timeout=0", "").body, "rooms")
	_, shown := objectIn(rooms, "join")[room]
	return shown
}
