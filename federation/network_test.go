package federation_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

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
			host.door.dead.Store(true)
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

	host.door.dead.Store(true)
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
	host.door.dead.Store(false)
	tell(time.Minute)
	wantMember(t, "told", host.member(room, guest.user("alice")), event.Leave)
	if unheard, err := guest.rooms.UnheardLeaves(t.Context()); err != nil || len(unheard) != 0 {
		t.Errorf("unheard after that: %v, %v", unheard, err)
	}
	// Who is invited again before that has nothing to tell any more, and what nobody hears is given up.
	if err := host.invite(room, guest.user("alice")); err != nil {
		t.Fatal(err)
	}
	host.door.dead.Store(true)
	if err := guest.network.Leave(t.Context(), guest.as("alice"), room, ""); err != nil {
		t.Fatal(err)
	}
	tell(15 * 24 * time.Hour)
	if unheard, err := guest.rooms.UnheardLeaves(t.Context()); err != nil || len(unheard) != 0 {
		t.Errorf("unheard after two weeks: %v, %v", unheard, err)
	}
	// Another invite brings the room back.
	host.door.dead.Store(false)
	if err := host.invite(room, guest.user("bob")); err != nil {
		t.Fatal(err)
	}
	wantMember(t, "invited again", guest.stands("bob", room).Membership, event.Invite)
}

// A server that does not answer keeps none from hearing who has left.
func TestLeavesAreToldSideBySide(t *testing.T) {
	w := newTown(t)
	slow, host, guest := w.house("slow.example"), w.house("host.example"), w.house("guest.example")
	var in []matrix.RoomID
	for _, h := range []*house{slow, host} {
		in = append(in, h.create(roomserver.CreateRoom{Preset: "private_chat"}))
		must(t, h.invite(in[len(in)-1], guest.user("alice")))
		h.door.dead.Store(true)
	}
	for _, room := range in {
		must(t, guest.network.Leave(t.Context(), guest.as("alice"), room, ""))
	}
	told, waited := make(chan struct{}), make(chan bool, 100)
	w.settle("slow.example", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-told:
			waited <- true
		case <-r.Context().Done():
			waited <- false
		}
		rw.WriteHeader(404)
	}))
	w.settle("host.example", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/send_leave/") {
			defer close(told)
		}
		host.door.ServeHTTP(rw, r)
	}))
	must(t, guest.network.TellLeaves(t.Context()))
	if !<-waited {
		t.Error("the other server was told when the slow one was given up")
	}
	wantMember(t, "alice", host.member(in[1], guest.user("alice")), event.Leave)
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
