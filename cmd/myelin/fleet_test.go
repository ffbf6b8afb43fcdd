package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/storage/storagetest"
)

// fleet is several servers, each a process, that trust one authority.
type fleet struct {
	dir     string // the certificate
	servers []*fleetServer
}

// fleetServer is one of them. Its name is its address.
type fleetServer struct {
	*process
	name    string
	listens string // for other servers; elsewhere than at its name if something stands before it
}

// A mix says on which databases the servers of a fleet are.
type mix []func(*testing.T) string

func onSQLite(*testing.T) string     { return "sqlite" }
func onPostgres(t *testing.T) string { return storagetest.PostgresURL(t) }

// eachMix runs f on fleets of n servers, on SQLite and on both databases.
func eachMix(t *testing.T, n int, f func(*testing.T, *fleet)) {
	mixes := map[string]mix{"sqlite": {onSQLite, onSQLite}, "mixed": {onSQLite, onPostgres}}
	for name, m := range mixes {
		t.Run(name, func(t *testing.T) {
			databases := make([]string, n)
			for i := range databases {
				databases[i] = m[i%len(m)](t)
			}
			f(t, newFleet(t, databases))
		})
	}
}

// newFleet starts a server on each of the databases.
func newFleet(t *testing.T, databases []string) *fleet {
	t.Helper()
	f := &fleet{dir: storagetest.Dir(t)}
	writeCertificate(t, f.dir)
	for i, database := range databases {
		host := "127.0.0.1"
		if i%2 == 1 {
			host = "localhost"
		}
		f.servers = append(f.servers, f.newServer(t, host, database))
	}
	for _, s := range f.servers {
		s.start(t)
	}
	return f
}

func (f *fleet) newServer(t *testing.T, host, database string) *fleetServer {
	t.Helper()
	return f.newServerBehind(t, host, database, 0)
}

// newServerBehind makes a server whose name has another port than the one it listens on, if that is not 0.
func (f *fleet) newServerBehind(t *testing.T, host, database string, named int) *fleetServer {
	t.Helper()
	dir, clients, peers := storagetest.Dir(t), freePort(t), freePort(t)
	s := &fleetServer{name: fmt.Sprintf("%s:%d", host, cmp.Or(named, peers)), listens: fmt.Sprintf("127.0.0.1:%d", peers)}
	type m map[string]any
	text, err := json.Marshal(m{ // which is YAML too
		"server_name": s.name, "data_dir": dir, "database": database,
		"listen": []m{
			{"address": fmt.Sprintf("127.0.0.1:%d", clients), "serve": []string{"client", "admin", "metrics"}},
			{
				"address": fmt.Sprintf("127.0.0.1:%d", peers), "serve": []string{"federation"},
				"tls_cert": filepath.Join(f.dir, "cert.pem"), "tls_key": filepath.Join(f.dir, "key.pem"),
			},
		},
		"registration": "open", "password_hash_cost": 4, "rate_limits": m{"enabled": false},
		"federation": m{"ca_file": filepath.Join(f.dir, "cert.pem")},
		"outbound":   m{"allow_private_addresses": true},
		"log":        m{"level": "info"},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "myelin.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.process = newProcessAt(t, fmt.Sprintf("http://127.0.0.1:%d", clients), "serve", "--config", file)
	return s
}

func listenAt(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// writeCertificate makes a certificate of this machine that is its own authority.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// stop stops a server as an operator does.
func (s *fleetServer) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("%s was told to stop: %v", s.name, err)
	}
	s.cmd = nil
}

// settleTime is how long servers may take to agree: those that were away are tried again after some seconds.
const settleTime = 45 * time.Second

// watcher is a user who follows everything by /sync, and notes it.
type watcher struct {
	session
	t        *testing.T
	since    string
	filter   string               // empty: one that wants all members
	seen     map[string]bool      // event IDs
	bodies   map[string][]string  // of messages, by room, in the order of their coming
	members  map[[2]string]string // membership by room and user
	invites  map[string]bool      // rooms
	left     map[string]bool      // rooms
	typing   map[string][]string  // users by room
	receipts map[[3]string]bool   // room, event, user
	presence map[string][2]string // state and status by user
	counts   map[[2]string]int    // of bodies, by room and body
	letters  map[string][]int     // numbers of messages to the device, by sender, in the order of their coming
}

// watcher makes a user of the server.
func (s *fleetServer) watcher(t *testing.T, name string) *watcher {
	t.Helper()
	w := &watcher{
		session: mustRegister(t, s.url, name), t: t, seen: map[string]bool{}, bodies: map[string][]string{},
		members: map[[2]string]string{}, invites: map[string]bool{}, left: map[string]bool{}, typing: map[string][]string{},
		receipts: map[[3]string]bool{}, presence: map[string][2]string{}, counts: map[[2]string]int{},
		letters: map[string][]int{},
	}
	return w
}

// until follows until something is so.
func (w *watcher) until(what string, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), settleTime)
	defer cancel()
	for !is() {
		if err := w.sync(ctx, 500); err != nil {
			w.t.Fatalf("%s waits for %s: %v", w.user, what, err)
		}
	}
}

// sync takes in what is new.
func (w *watcher) sync(ctx context.Context, timeoutMS int) error {
	filter := cmp.Or(w.filter, `{"room":{"timeline":{"limit":500}}}`)
	query := url.Values{"timeout": {fmt.Sprint(timeoutMS)}, "filter": {filter}}
	if w.since != "" {
		query.Set("since", w.since)
	}
	r, err := w.ask(ctx, "GET", "/sync?"+query.Encode(), "")
	if err != nil {
		return err
	}
	if err := answered(r); err != nil {
		return err
	}
	rooms := objectIn(r.body, "rooms")
	for room := range objectIn(rooms, "join") {
		w.joined(ctx, room, objectIn(objectIn(rooms, "join"), room))
	}
	for room := range objectIn(rooms, "invite") {
		w.invites[room] = true
	}
	for room := range objectIn(rooms, "leave") {
		w.left[room] = true
		w.events(room, objectIn(objectIn(objectIn(rooms, "leave"), room), "timeline"))
	}
	for _, e := range listIn(objectIn(r.body, "presence"), "events") {
		content := objectIn(e, "content")
		state, _ := content["presence"].(string)
		status, _ := content["status_msg"].(string)
		w.presence[e["sender"].(string)] = [2]string{state, status}
	}
	for _, e := range listIn(objectIn(r.body, "to_device"), "events") {
		sender := e["sender"].(string)
		number, _ := objectIn(e, "content")["n"].(float64)
		w.letters[sender] = append(w.letters[sender], int(number))
	}
	w.since = r.text("next_batch")
	return nil
}

func (w *watcher) joined(ctx context.Context, room string, data map[string]any) {
	if w.left[room] { // who comes back is shown the room afresh
		for _, e := range listIn(objectIn(data, "timeline"), "events") {
			delete(w.seen, e["event_id"].(string))
		}
	}
	delete(w.left, room)
	delete(w.invites, room)
	for _, e := range listIn(objectIn(data, "state"), "events") {
		w.member(room, e)
	}
	timeline := objectIn(data, "timeline")
	if timeline["limited"] == true && w.since != "" {
		w.fill(ctx, room, timeline["prev_batch"].(string))
	}
	w.events(room, timeline)
	for _, e := range listIn(objectIn(data, "ephemeral"), "events") {
		content := objectIn(e, "content")
		switch e["type"] {
		case "m.typing":
			w.typing[room] = nil
			for _, user := range content["user_ids"].([]any) {
				w.typing[room] = append(w.typing[room], user.(string))
			}
		case "m.receipt":
			for event := range content {
				for user := range objectIn(objectIn(content, event), "m.read") {
					w.receipts[[3]string{room, event, user}] = true
				}
			}
		}
	}
}

// fill reads what a limited timeline leaves out, back to what was seen.
func (w *watcher) fill(ctx context.Context, room, from string) {
	for from != "" {
		r, err := w.ask(ctx, "GET", inRoom(room, "/messages?dir=b&limit=200&from=%s", url.QueryEscape(from)), "")
		if err != nil || r.status != 200 {
			w.t.Errorf("%s reads back in %s: got %d %v, %v", w.user, room, r.status, r.body, err)
			return
		}
		for _, e := range listIn(r.body, "chunk") {
			if w.seen[e["event_id"].(string)] {
				return
			}
			w.note(room, e)
		}
		from = r.text("end")
	}
}

func (w *watcher) events(room string, timeline map[string]any) {
	for _, e := range listIn(timeline, "events") {
		id := e["event_id"].(string)
		if w.seen[id] {
			w.t.Errorf("%s is told of %s twice", w.user, id)
		}
		w.note(room, e)
	}
}

func (w *watcher) note(room string, e map[string]any) {
	w.seen[e["event_id"].(string)] = true
	w.member(room, e)
	if body, ok := objectIn(e, "content")["body"].(string); ok && e["type"] == "m.room.message" {
		w.bodies[room] = append(w.bodies[room], body)
		w.counts[[2]string{room, body}]++
	}
}

func (w *watcher) member(room string, e map[string]any) {
	if user, ok := e["state_key"].(string); ok && e["type"] == "m.room.member" {
		w.members[[2]string{room, user}], _ = objectIn(e, "content")["membership"].(string)
	}
}

// objectIn is a member of an object that is one; empty if there is none.
func objectIn(of map[string]any, name string) map[string]any {
	o, _ := of[name].(map[string]any)
	return o
}

// listIn is a member that is a list of objects.
func listIn(of map[string]any, name string) []map[string]any {
	all, _ := of[name].([]any)
	var out []map[string]any
	for _, e := range all {
		out = append(out, e.(map[string]any))
	}
	return out
}

// say sends a message.
func (w *watcher) say(room, body string) (id string) {
	w.t.Helper()
	path := inRoom(room, "/send/m.room.message/%s", url.PathEscape(body))
	return w.must(w.t, "PUT", path, fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, body)).text("event_id")
}

// hears waits for a message.
func (w *watcher) hears(room, body string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%q", body), func() bool { return slices.Contains(w.bodies[room], body) })
}

// sees waits for a membership.
func (w *watcher) sees(room, user, membership string) {
	w.t.Helper()
	w.until(user+" to be "+membership, func() bool { return w.members[[2]string{room, user}] == membership })
}

func (w *watcher) join(room string, via ...*fleetServer) {
	w.t.Helper()
	query := url.Values{}
	for _, s := range via {
		query.Add("via", s.name)
	}
	w.must(w.t, "POST", "/join/"+url.PathEscape(room)+"?"+query.Encode(), `{}`)
}

// act does something to another member.
func (w *watcher) act(room, what string, target *watcher) {
	w.t.Helper()
	w.must(w.t, "POST", inRoom(room, "/%s", what), fmt.Sprintf(`{"user_id":%q}`, target.user))
}

// mustList reads an answer that is a list of objects.
func (w *watcher) mustList(t *testing.T, path string) []map[string]any {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/_matrix/client/v3"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	response, err := manyConnections.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var all []map[string]any
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s of %s: got %d, %v", path, w.user, response.StatusCode, err)
	}
	return all
}
