package federation_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/federation/network"
	peerapi "github.com/myelin-chat/myelin/federation/peer"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

// A town is several servers in one process, each with its own address, and a network between them.
type town struct {
	t      testing.TB
	places map[string]netip.Addr    // by host
	at     map[netip.Addr]*listener // what answers there
}

type listener struct {
	to   net.Addr
	dead bool
}

func newTown(t testing.TB) *town {
	return &town{t: t, places: make(map[string]netip.Addr), at: make(map[netip.Addr]*listener)}
}

// LookupNetIP implements outbound's resolver.
func (w *town) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	addr, known := w.places[host]
	if !known {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{addr}, nil
}

// LookupSRV implements outbound's resolver.
func (*town) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (w *town) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	l := w.at[to.Addr()]
	if to.Port() != 8448 || l == nil || l.dead {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", l.to.String())
}

// plainClient reaches one house, without what servers tell of themselves.
func (w *town) plainClient(h *house) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", h.door.to.String())
		},
		DisableKeepAlives: true,
	}}
}

// settle lets a handler answer for a host.
func (w *town) settle(host string, h http.Handler) *listener {
	w.t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	w.t.Cleanup(server.Close)
	addr := netip.AddrFrom4([4]byte{8, 0, 0, byte(len(w.places) + 1)})
	l := &listener{to: server.Listener.Addr()}
	w.places[host], w.at[addr] = addr, l
	return l
}

// A house is one server of a town, with users alice and bob.
type house struct {
	t        testing.TB
	name     matrix.ServerName
	key      signing.Key
	db       *storage.DB
	accounts *accounts.Accounts
	rooms    *roomserver.Server
	ring     *keys.Ring
	remote   *remote.Client
	network  *network.Network
	door     *listener

	mu     sync.Mutex
	passed time.Duration                         // as the network has it
	tamper func(path string, body []byte) []byte // with what it answers; nil: not
	asked  []string                              // method and path of requests about memberships
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.passed)
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passed += d
}

func (w *town) house(name matrix.ServerName) *house {
	w.t.Helper()
	return w.houseOn(name, storagetest.Open(w.t, storagetest.SQLite))
}

func (w *town) houseOn(name matrix.ServerName, db *storage.DB) *house {
	t := w.t
	t.Helper()
	h := &house{t: t, name: name, db: db}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h.key, err = signing.Generate(rand.Reader)
	check()
	client, err := outbound.New(outbound.Settings{
		Federation: config.Federation{Enabled: true, InsecureSkipVerify: true}, ServerName: name, Key: h.key, Resolver: w, Connect: w.connect,
	})
	check()
	t.Cleanup(client.Close)
	h.ring, err = keys.New(t.Context(), keys.Settings{DB: db, Client: client, ServerName: name, Key: h.key, Now: time.Now, Log: quiet})
	check()
	h.accounts, err = accounts.New(accounts.Settings{
		DB: db, ServerName: name, Registration: config.Open, PasswordHashCost: 4,
		DefaultPushRules: pushrules.DefaultContent, Now: time.Now, Rand: rand.Reader,
	})
	check()
	h.remote = remote.New(remote.Settings{HTTP: client, Verifier: h.ring, Log: quiet})
	h.rooms = roomserver.New(roomserver.Settings{
		DB: db, ServerName: name, Key: h.key, Profiles: h.accounts, Remote: network.NewRooms(h.remote),
		DefaultVersion: "12", Now: time.Now, Rand: rand.Reader, Log: quiet,
	})
	eph, err := ephemeral.New(ephemeral.Settings{Bus: noBus{}, Now: time.Now, Boot: "one", Log: quiet})
	check()
	api := assemble(parts{
		db: db, accounts: h.accounts, rooms: h.rooms, ephemeral: eph, invites: h.rooms, remote: h.remote, key: h.key,
		gate: &peerapi.Gate{Ring: h.ring, Client: client}, now: h.clock, log: quiet,
	})
	h.network = api.network
	h.door = w.settle(string(name), h.watched(httpapi.New(httpapi.Settings{
		APIs: []httpapi.API{{Service: config.Federating, Routes: api.Routes}}, Log: quiet, Now: time.Now,
	}).Handler()))
	for _, user := range []string{"alice", "bob"} {
		_, err = h.accounts.Register(t.Context(), accounts.Registration{
			Username: user, Password: "correct horse battery", InhibitLogin: true, Auth: json.RawMessage(`{"type":"m.login.dummy"}`),
		})
		check()
	}
	return h
}

// watched notes what is asked, and lets the test change what is answered.
func (h *house) watched(to http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if h.door.dead {
			panic(http.ErrAbortHandler) // over a connection from before
		}
		answer := httptest.NewRecorder()
		to.ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		h.mu.Lock()
		if strings.HasPrefix(r.URL.Path, "/_matrix/federation/") {
			h.asked = append(h.asked, r.Method+" "+strings.Split(r.URL.Path, "/")[4])
		}
		if h.tamper != nil && answer.Code == 200 {
			body = h.tamper(r.URL.Path, body)
		}
		h.mu.Unlock()
		rw.WriteHeader(answer.Code)
		rw.Write(body)
	})
}

type noBus struct{}

func (noBus) Publish(string, []byte) error                            { return nil }
func (noBus) Subscribe(string, func([]byte)) (cancel func(), _ error) { return func() {}, nil }

func (h *house) user(name string) matrix.UserID {
	return matrix.UserID("@" + name + ":" + string(h.name))
}

func (h *house) as(name string) matrix.Requester {
	return matrix.Requester{Account: h.user(name), User: h.user(name), Device: "D"}
}

func (h *house) create(in roomserver.CreateRoom) matrix.RoomID {
	h.t.Helper()
	id, err := h.rooms.Create(h.t.Context(), h.as("alice"), in)
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

func (h *house) set(room matrix.RoomID, typ, content string) {
	h.t.Helper()
	_, err := h.rooms.SendState(h.t.Context(), h.as("alice"), roomserver.SendState{Room: room, Type: typ, Content: []byte(content)})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) join(name string, room matrix.RoomID, via ...matrix.ServerName) error {
	return h.network.Join(h.t.Context(), h.as(name), roomserver.JoinRoom{Room: room}, via)
}

// member is what the current state of a room says of a user.
func (h *house) member(room matrix.RoomID, user matrix.UserID) event.Membership {
	h.t.Helper()
	state, err := h.rooms.Current(h.t.Context(), room)
	if err != nil {
		return ""
	}
	m, _, err := state.Member(h.t.Context(), user)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// stands is what sync would tell a user of a room.
func (h *house) stands(name string, room matrix.RoomID) rooms.Membership {
	h.t.Helper()
	all, err := rooms.MembershipsOfUser(h.t.Context(), h.db, h.user(name), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range all {
		if m.Room == room {
			return m
		}
	}
	return rooms.Membership{}
}

func wantCode(t testing.TB, what string, err error, want matrix.ErrorCode) {
	t.Helper()
	if got := matrix.CodeOf(err); got != want {
		t.Errorf("%s: got %v, want the code %q", what, err, want)
	}
}

func wantMember(t testing.TB, what string, got, want event.Membership) {
	t.Helper()
	if got != want {
		t.Errorf("%s: the membership is %q, want %q", what, got, want)
	}
}

func TestNetworkJoin(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"1", "2", "6", "10", "11", "12"} {
		t.Run(string(version), func(t *testing.T) {
			w := newTown(t)
			host, guest := w.house("host.example"), w.house("guest.example")
			room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: version, Name: "the square"})
			if err := guest.join("bob", room, "gone.example", "host.example"); err != nil {
				t.Fatal(err)
			}
			wantMember(t, "bob at the host", host.member(room, guest.user("bob")), event.Join)
			wantMember(t, "bob at the guest", guest.member(room, guest.user("bob")), event.Join)
			wantMember(t, "alice at the guest", guest.member(room, host.user("alice")), event.Join)
			wantMember(t, "bob by the table", guest.stands("bob", room).Membership, event.Join)
			// The second of the guest's users needs nobody.
			host.door.dead = true
			if err := guest.join("alice", room); err != nil {
				t.Errorf("the second join: %v", err)
			}
		})
	}
}

func TestNetworkJoinRefused(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	private := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	banned := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	err := host.rooms.Ban(t.Context(), host.as("alice"), roomserver.Move{Room: banned, Target: guest.user("bob")})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "private", guest.join("bob", private, "host.example"), matrix.Forbidden)
	wantCode(t, "banned", guest.join("bob", banned, "host.example"), matrix.Forbidden)
	wantCode(t, "no server known", guest.join("bob", private), matrix.NotFound)
	wantCode(t, "no such room", guest.join("bob", "!none:host.example"), matrix.NotFound)
	wantCode(t, "nobody answers", guest.join("bob", private, "gone.example"), matrix.Unknown)
	visitor := guest.as("bob")
	visitor.Guest = true
	err = guest.network.Join(t.Context(), visitor, roomserver.JoinRoom{Room: banned}, []matrix.ServerName{"host.example"})
	wantCode(t, "a guest", err, matrix.GuestAccessForbidden)
}

// A server that cannot let a user into a restricted room leaves it to one that can.
func TestNetworkRestrictedJoinFailsOver(t *testing.T) {
	w := newTown(t)
	host, second, guest := w.house("host.example"), w.house("second.example"), w.house("guest.example")
	club := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	if err := guest.join("bob", club, "host.example"); err != nil {
		t.Fatal(err)
	}
	room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11"})
	if err := second.join("bob", room, "host.example"); err != nil {
		t.Fatal(err)
	}
	// second is in the room, and does not know the club.
	rule := fmt.Sprintf(`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%q}]}`, club)
	host.set(room, "m.room.join_rules", rule)
	host.deliver(second, room)
	if err := guest.join("bob", room, "second.example", "host.example"); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "bob at the host", host.member(room, guest.user("bob")), event.Join)
	wantMember(t, "bob at the guest", guest.member(room, guest.user("bob")), event.Join)
	if err := guest.network.Leave(t.Context(), guest.as("bob"), room, ""); err != nil {
		t.Fatal(err)
	}
	// alice of the guest is not in the club.
	wantCode(t, "not in the club", guest.join("alice", room, "second.example", "host.example"), matrix.Forbidden)
}

// A server that has not heard of what lets a user in does not keep it out.
func TestNetworkJoinPastWhoIsBehind(t *testing.T) {
	w := newTown(t)
	host, second, guest := w.house("host.example"), w.house("second.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	if err := second.join("bob", room, "host.example"); err != nil {
		t.Fatal(err)
	}
	host.set(room, "m.room.join_rules", `{"join_rule":"invite"}`)
	host.deliver(second, room)
	wantCode(t, "nobody lets bob in", guest.join("bob", room, "gone.example", "second.example", "host.example"), matrix.Forbidden)
	host.set(room, "m.room.join_rules", `{"join_rule":"public"}`)
	wantCode(t, "second has not heard of it", guest.join("bob", room, "second.example"), matrix.Forbidden)
	if err := guest.join("bob", room, "second.example", "host.example"); err != nil {
		t.Errorf("the other has: %v", err)
	}
}

// deliver brings what is new in a room to another house, as the outbox would.
func (h *house) deliver(to *house, room matrix.RoomID) {
	h.t.Helper()
	r, err := h.rooms.Room(h.t.Context(), room)
	if err != nil {
		h.t.Fatal(err)
	}
	found, err := rooms.Timeline(h.t.Context(), h.db, r, storage.Span{UpTo: h.db.Position()}, 1)
	if err != nil || len(found) == 0 {
		h.t.Fatal("no event:", err)
	}
	for _, got := range to.rooms.Receive(h.t.Context(), h.name, room, []*event.Event{found[0].Event}) {
		if got.Outcome != roomserver.Accepted && got.Outcome != roomserver.Known {
			h.t.Fatalf("%s: outcome %d, %v", got.Event, got.Outcome, got.Err)
		}
	}
}

func TestNetworkKnock(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat", Name: "the den"})
	knock := roomserver.JoinRoom{Room: room, Reason: "let me in"}
	via := []matrix.ServerName{"host.example"}
	wantCode(t, "on a room without", guest.network.Knock(t.Context(), guest.as("bob"), knock, via), matrix.Forbidden)
	host.set(room, "m.room.join_rules", `{"join_rule":"knock"}`)
	if err := guest.network.Knock(t.Context(), guest.as("bob"), knock, via); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "at the host", host.member(room, guest.user("bob")), event.Knock)
	m := guest.stands("bob", room)
	wantMember(t, "at the guest", m.Membership, event.Knock)
	if !strings.Contains(string(m.Stripped), `"name":"the den"`) {
		t.Errorf("bob is shown %s", m.Stripped)
	}
	// The room is named after no server, but bob was told who made it.
	if err := guest.network.Leave(t.Context(), guest.as("bob"), room, ""); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "taken back", guest.stands("bob", room).Membership, event.Leave)
	wantMember(t, "taken back at the host", host.member(room, guest.user("bob")), event.Leave)
}

// invite makes the host invite bob of the guest.
func (h *house) invite(room matrix.RoomID, target matrix.UserID) error {
	return h.network.Invite(h.t.Context(), h.as("alice"), roomserver.Move{Room: room, Target: target}, true)
}

func TestNetworkInvite(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"1", "2", "8", "11", "12"} {
		t.Run(string(version), func(t *testing.T) {
			w := newTown(t)
			host, guest := w.house("host.example"), w.house("guest.example")
			room := host.create(roomserver.CreateRoom{Preset: "private_chat", Version: version, Name: "the den"})
			for _, name := range []string{"alice", "bob"} {
				if err := host.invite(room, guest.user(name)); err != nil {
					t.Fatal(err)
				}
			}
			wantMember(t, "at the host", host.member(room, guest.user("bob")), event.Invite)
			m := guest.stands("bob", room)
			wantMember(t, "at the guest", m.Membership, event.Invite)
			for _, part := range []string{`"name":"the den"`, `"is_direct":true`, `"m.room.create"`} {
				if !strings.Contains(string(m.Stripped), part) {
					t.Errorf("bob is shown %s, which lacks %s", m.Stripped, part)
				}
			}
			if !json.Valid(m.Stripped) {
				t.Errorf("bob is shown %s, which is no JSON", m.Stripped)
			}
			if err := guest.join("bob", room); err != nil {
				t.Fatal(err)
			}
			wantMember(t, "joined, at the host", host.member(room, guest.user("bob")), event.Join)
			wantMember(t, "the other invite", guest.member(room, guest.user("alice")), event.Invite)
			if err := guest.join("alice", room); err != nil {
				t.Errorf("the second invited: %v", err)
			}
		})
	}
}

func TestNetworkInviteRejected(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	for _, name := range []string{"alice", "bob"} {
		if err := host.invite(room, guest.user(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := guest.network.Leave(t.Context(), guest.as("bob"), room, "no time"); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "at the host", host.member(room, guest.user("bob")), event.Leave)
	wantMember(t, "at the guest", guest.stands("bob", room).Membership, event.Leave)
	wantCode(t, "join after that", guest.join("bob", room, "host.example"), matrix.Forbidden)

	host.door.dead = true
	if err := guest.network.Leave(t.Context(), guest.as("alice"), room, ""); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "rejected while nobody answers", guest.stands("alice", room).Membership, event.Leave)
	if err := guest.network.Leave(t.Context(), guest.as("alice"), room, ""); err != nil {
		t.Errorf("again: %v", err)
	}
	wantCode(t, "a room nobody has heard of", guest.network.Leave(t.Context(), guest.as("alice"), "!none:far.example", ""), matrix.Forbidden)
	// When the host is back, it is told.
	tell := func(later time.Duration) {
		t.Helper()
		guest.pass(later)
		if err := guest.network.TellLeaves(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tell(0)
	wantMember(t, "nobody could be told", host.member(room, guest.user("alice")), event.Invite)
	host.door.dead = false
	tell(0)
	wantMember(t, "told", host.member(room, guest.user("alice")), event.Leave)
	if unheard, err := guest.rooms.UnheardLeaves(t.Context()); err != nil || len(unheard) != 0 {
		t.Errorf("unheard after that: %v, %v", unheard, err)
	}
	// Who is invited again before that has nothing to tell any more, and what nobody hears is given up.
	if err := host.invite(room, guest.user("alice")); err != nil {
		t.Fatal(err)
	}
	host.door.dead = true
	if err := guest.network.Leave(t.Context(), guest.as("alice"), room, ""); err != nil {
		t.Fatal(err)
	}
	tell(15 * 24 * time.Hour)
	if unheard, err := guest.rooms.UnheardLeaves(t.Context()); err != nil || len(unheard) != 0 {
		t.Errorf("unheard after two weeks: %v, %v", unheard, err)
	}
	// Another invite brings the room back.
	host.door.dead = false
	if err := host.invite(room, guest.user("bob")); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "invited again", guest.stands("bob", room).Membership, event.Invite)
}

// Who is refused by the server of the invited is not invited: nobody hears of it.
func TestNetworkInviteRefused(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	block := users.SetAccountData{
		User: guest.user("alice"), Type: "m.invite_permission_config", Content: []byte(`{"default_action":"block"}`),
	}
	if _, err := guest.db.Commit(t.Context(), block); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "who wants no invites", host.invite(room, guest.user("alice")), matrix.InviteBlocked)
	if err := guest.accounts.DeactivateUser(t.Context(), guest.user("bob"), false); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "whose account has ended", host.invite(room, guest.user("bob")), matrix.Forbidden)
	wantCode(t, "who does not exist", host.invite(room, guest.user("carol")), matrix.NotFound)
	wantCode(t, "whose server does not", host.invite(room, "@x:gone.example"), matrix.Unknown)
	wantCode(t, "by who is not in the room", host.network.Invite(t.Context(), host.as("bob"),
		roomserver.Move{Room: room, Target: guest.user("alice")}, false), matrix.Forbidden)
	for _, name := range []string{"alice", "bob", "carol"} {
		wantMember(t, name+" at the host", host.member(room, guest.user(name)), "")
		wantMember(t, name+" at the guest", guest.stands(name, room).Membership, "")
	}
}

// An invite to a room that the server of the invited is in already comes through the room.
func TestNetworkInviteIntoKnownRoom(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	if err := guest.join("alice", room, "host.example"); err != nil {
		t.Fatal(err)
	}
	if err := host.invite(room, guest.user("bob")); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "at the guest", guest.member(room, guest.user("bob")), event.Invite)
	wantMember(t, "by the table", guest.stands("bob", room).Membership, event.Invite)
	wantCode(t, "who is in the room", host.invite(room, guest.user("alice")), matrix.Forbidden)
}

// A room that everybody of a server has left is entered again through others, and goes on from where it then is.
func TestNetworkRejoin(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newTown(t)
		host, guest := w.house("host.example"), w.houseOn("guest.example", db)
		room := host.create(roomserver.CreateRoom{Preset: "private_chat", Version: "11"})
		for range 2 {
			if err := host.invite(room, guest.user("bob")); err != nil {
				t.Fatal(err)
			}
			wantMember(t, "invited", guest.stands("bob", room).Membership, event.Invite)
			if err := guest.join("bob", room, "host.example"); err != nil {
				t.Fatal(err)
			}
			if err := guest.network.Leave(t.Context(), guest.as("bob"), room, ""); err != nil {
				t.Fatal(err)
			}
			guest.deliver(host, room)
			wantMember(t, "left", host.member(room, guest.user("bob")), event.Leave)
			host.set(room, "m.room.topic", fmt.Sprintf(`{"topic":%q}`, rand.Text()))
		}
		if err := host.invite(room, guest.user("bob")); err != nil {
			t.Fatal(err)
		}
		if err := guest.join("bob", room, "host.example"); err != nil {
			t.Fatal(err)
		}
		for _, at := range []*house{host, guest} {
			wantMember(t, "at "+string(at.name), at.member(room, guest.user("bob")), event.Join)
		}
		topic := event.Key{Type: "m.room.topic"}
		if got, want := guest.stateText(room, topic), host.stateText(room, topic); got != want {
			t.Errorf("the topic at the guest is %s, want %s", got, want)
		}
	})
}

func (h *house) stateText(room matrix.RoomID, key event.Key) string {
	h.t.Helper()
	state, err := h.rooms.Current(h.t.Context(), room)
	if err != nil {
		h.t.Fatal(err)
	}
	ev, err := state.Event(h.t.Context(), key)
	if err != nil || ev == nil {
		h.t.Fatalf("no %v (%v)", key, err)
	}
	return string(ev.Content)
}

// Of several who come to a room at once, one brings it and the others find it.
func TestNetworkJoinAtOnce(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { errs[i] = guest.join([]string{"alice", "bob"}[i%2], room, "host.example") })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("join %d: %v", i, err)
		}
	}
	sent := 0
	for _, asked := range host.asked {
		if asked == "PUT send_join" {
			sent++
		}
	}
	if sent != 1 {
		t.Errorf("%d joins were sent to the host, want 1", sent)
	}
	for _, name := range []string{"alice", "bob"} {
		wantMember(t, name, guest.member(room, guest.user(name)), event.Join)
	}
}

func TestNetworkQueries(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	ctx := t.Context()
	room := host.create(roomserver.CreateRoom{Preset: "public_chat", Name: "the square", AliasName: "square", Public: true})
	id, servers, err := guest.network.Alias(ctx, "#square:host.example")
	if err != nil || id != room || fmt.Sprint(servers) != "[host.example]" {
		t.Errorf("the alias leads to %s, %v, %v", id, servers, err)
	}
	_, _, err = guest.network.Alias(ctx, "#none:host.example")
	wantCode(t, "no alias", err, matrix.NotFound)
	page, err := guest.network.PublicRooms(ctx, "host.example", roomserver.DirectoryQuery{Term: "square"})
	if err != nil || len(page.Rooms) != 1 || page.Rooms[0].Name != "the square" || page.Rooms[0].Joined != 1 {
		t.Errorf("the directory is %+v, %v", page, err)
	}
	if _, err := host.accounts.SetProfileField(ctx, host.user("alice"), "displayname", json.RawMessage(`"Alice"`)); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"", "displayname"} {
		profile, err := guest.network.Profile(ctx, host.user("alice"), field)
		if err != nil || string(profile["displayname"]) != `"Alice"` {
			t.Errorf("profile, field %q: %s, %v", field, profile, err)
		}
	}
	_, err = guest.network.Profile(ctx, host.user("alice"), "m.none")
	wantCode(t, "no field", err, matrix.NotFound)
	_, err = guest.network.Profile(ctx, "@x:gone.example", "")
	wantCode(t, "no server", err, matrix.Unknown)
}
