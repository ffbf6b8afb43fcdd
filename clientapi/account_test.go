package clientapi

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

func TestWhoami(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	alice.get("/account/whoami").is(`{"user_id":"@alice:example.org","device_id":"` + string(alice.device) + `","is_guest":false}`)
	alice.get("/_matrix/client/r0/account/whoami").has("@alice:example.org", "user_id")
	w.guest().get("/account/whoami").has(true, "is_guest")
	w.outcast.get("/account/whoami").fails(401, "M_MISSING_TOKEN")
	(&client{w: w, token: "x"}).get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN")
}

// BenchmarkWhoami is what any request costs: route, access token, answer.
func BenchmarkWhoami(b *testing.B) {
	w := newWorld(b)
	alice := w.register("alice")
	r := httptest.NewRequest("GET", "/_matrix/client/v3/account/whoami", nil)
	r.Header.Set("Authorization", "Bearer "+alice.token)
	b.ReportAllocs()
	for b.Loop() {
		recorder := httptest.NewRecorder()
		if w.handler.ServeHTTP(recorder, r); recorder.Code != 200 {
			b.Fatalf("got %d %s", recorder.Code, recorder.Body)
		}
	}
}

func TestChangePassword(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	change := func(c *client, in object) *answer {
		t.Helper()
		session := c.post("/account/password", in).challenge("m.login.password")
		in["auth"] = passwordAuth("alice", goodPassword, session)
		return c.post("/account/password", in)
	}
	other := w.login("alice")
	change(alice, object{"new_password": goodPassword, "logout_devices": false}).is(`{}`)
	other.get("/account/whoami").ok()
	change(alice, object{"new_password": "battery staple"}).is(`{}`)
	other.get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN")
	alice.get("/account/whoami").ok()
	w.outcast.post("/login", passwordLogin("alice", goodPassword)).fails(403, "M_FORBIDDEN")
	w.outcast.post("/login", passwordLogin("alice", "battery staple")).ok()

	alice.post("/account/password", object{}).fails(400, "M_MISSING_PARAM")
	w.outcast.post("/account/password", object{"new_password": "x"}).fails(401, "M_MISSING_TOKEN")
}

func TestDeactivate(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	room := w.room(alice, bob)
	session := bob.post("/account/deactivate", object{"erase": true}).challenge("m.login.password")
	w.wantMember(room, bob, event.Join)

	// Another user's password does not do.
	in := object{"erase": true, "auth": passwordAuth("alice", goodPassword, session)}
	bob.post("/account/deactivate", in).fails(403, "M_FORBIDDEN")
	bob.post("/account/deactivate", object{"auth": passwordAuth("bob", goodPassword, session), "erase": true}).
		is(`{"id_server_unbind_result":"success"}`)
	w.wantMember(room, bob, event.Leave)
	w.wantMember(room, alice, event.Join)
	bob.get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN")
	w.outcast.post("/login", passwordLogin("bob", goodPassword)).fails(403, "M_FORBIDDEN")
	w.outcast.get("/register/available?username=bob").fails(400, "M_USER_IN_USE")
}

// A server that stopped between the end of an account and leaving its rooms leaves them when it runs again.
func TestDeparturesAreFinished(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	room := w.room(alice, bob, carol)
	for _, c := range []*client{bob, carol} {
		w.must(w.accounts.DeactivateUser(t.Context(), c.user, true))
		w.wantMember(room, c, event.Join)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.api.Run(ctx) }()
	for left, err := w.accounts.Departing(ctx); len(left) > 0 || err != nil; left, err = w.accounts.Departing(ctx) {
		w.must(err)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run got %v, want the end of its context", err)
	}
	for c, want := range map[*client]event.Membership{alice: event.Join, bob: event.Leave, carol: event.Leave} {
		w.wantMember(room, c, want)
	}
}

// Who deactivates is in no room afterwards, and nothing is left to do.
func TestDeactivateLeavesNothingToDo(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	w.room(alice)
	alice.post("/account/deactivate", object{"auth": passwordAuth("alice", goodPassword, "")}).ok()
	left, err := w.accounts.Departing(t.Context())
	if len(left) > 0 || err != nil {
		t.Errorf("departing: got %v and %v, want none", left, err)
	}
}

// That the account has ended is told to who knows its password.
func TestLoginAfterDeactivation(t *testing.T) {
	w := newWorld(t)
	alice, other := w.register("alice"), w.login("alice")
	alice.post("/account/deactivate", object{"auth": passwordAuth("alice", goodPassword, "")}).ok()
	other.get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN")
	w.outcast.post("/login", passwordLogin("alice", goodPassword)).fails(403, "M_USER_DEACTIVATED")
	w.outcast.post("/login", passwordLogin("alice", "wrong")).fails(403, "M_FORBIDDEN")
}

func TestThreePIDs(t *testing.T) {
	w := newWorld(t)
	w.register("alice").get("/account/3pid").is(`{"threepids":[]}`)
}

// room makes a public room in which these are.
func (w *world) room(creator *client, others ...*client) matrix.RoomID {
	w.t.Helper()
	room, err := w.rooms.Create(w.t.Context(), creator.who(), roomserver.CreateRoom{Preset: "public_chat"})
	w.must(err)
	for _, c := range others {
		w.must(w.rooms.Join(w.t.Context(), c.who(), room, ""))
	}
	return room
}

// member returns the member event of a client.
func (w *world) member(room matrix.RoomID, c *client) *event.Event {
	w.t.Helper()
	state, err := w.rooms.Current(w.t.Context(), room)
	w.must(err)
	_, ev, err := state.Member(w.t.Context(), c.user)
	w.must(err)
	if ev == nil {
		w.t.Fatalf("%s was never in %s", c.user, room)
	}
	return ev.Event
}

func (w *world) wantMember(room matrix.RoomID, c *client, want event.Membership) {
	w.t.Helper()
	if got := w.member(room, c).Membership(); got != want {
		w.t.Errorf("membership of %s: got %s, want %s", c.user, got, want)
	}
}
