package clientapi

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/myelin-chat/myelin/matrix"
)

func TestMembers(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol, dave := w.register("alice"), w.register("bob"), w.register("carol"), w.register("dave")
	r := alice.newRoom(publicChat)
	before := at(w.db.Position())
	r.join(bob, carol)
	joined := at(w.db.Position())
	r.leave(bob)
	r.move(alice, "invite", dave).ok()
	for params, want := range map[string]string{
		"":                                      "alice=join carol=join bob=leave dave=invite",
		"?membership=join":                      "alice=join carol=join",
		"?membership=leave":                     "bob=leave",
		"?membership=ban":                       "",
		"?not_membership=leave":                 "alice=join carol=join dave=invite",
		"?membership=join&not_membership=leave": "alice=join carol=join dave=invite", // either will do
		"?at=t" + before + "_0":                 "alice=join",
		"?at=t" + joined + "_0":                 "alice=join bob=join carol=join",
		"?at=t" + joined + "_-1":                "alice=join bob=join", // before the last of them
		"?at=sx_" + joined + "_0_y_0":           "alice=join bob=join carol=join",
		"?at=t0_0":                              "alice=join", // as near to the beginning as there is somebody
		"?at=t" + joined + "_0&membership=ban":  "",
	} {
		wants(t, params, alice.get(r.path+"/members"+params).ok().users("chunk"), want)
	}
	alice.get(r.path+"/members").has(r.id, "chunk", "0", "room_id")
	alice.get(r.path+"/members?membership=nonsense").fails(400, "M_INVALID_PARAM")
	alice.get(r.path+"/members?not_membership=nonsense").fails(400, "M_INVALID_PARAM")
	alice.get(r.path+"/members?at=nonsense").fails(400, "M_INVALID_PARAM")
	dave.get(r.path+"/members").fails(403, "M_FORBIDDEN") // only invited
}

func TestJoinedMembers(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	r := alice.newRoom(publicChat)
	r.join(bob, carol)
	bob.put(r.path+"/state/m.room.member/"+string(bob.user), object{
		"membership": "join", "displayname": "Bob \"B\"", "avatar_url": "mxc://example.org/b",
	}).ok()
	carol.put(r.path+"/state/m.room.member/"+string(carol.user), object{"membership": "join", "displayname": 7}).ok()
	r.move(alice, "invite", w.register("dave")).ok()
	a := alice.get(r.path+"/joined_members").ok().
		has("Bob \"B\"", "joined", string(bob.user), "display_name").has("mxc://example.org/b", "joined", string(bob.user), "avatar_url").
		has(nil, "joined", string(carol.user), "display_name")
	if n := len(a.at("joined").(object)); n != 3 {
		t.Errorf("joined: got %d members, want 3, in %s", n, a.text)
	}
}

func TestJoinedRooms(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	var want []any
	for range 3 {
		want = append(want, alice.newRoom(object{}).id)
	}
	left := alice.newRoom(object{})
	left.leave(alice)
	if got := alice.get("/joined_rooms").ok().at("joined_rooms"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("joined rooms: got %v, want %v", got, want)
	}
}

// BenchmarkMembers reads the members of a large room whose events are in the cache.
func BenchmarkMembers(b *testing.B) {
	w := newWorld(b)
	alice := w.register("alice")
	r := alice.newRoom(publicChat)
	var joining errgroup.Group
	joining.SetLimit(64)
	for i := range 10_000 {
		joining.Go(func() error {
			who := matrix.UserID(fmt.Sprintf("@user%d:example.org", i))
			return w.rooms.Join(b.Context(), matrix.Requester{Account: who, User: who}, matrix.RoomID(r.id), "")
		})
	}
	w.must(joining.Wait())
	request := httptest.NewRequest("GET", "/_matrix/client/v3"+r.path+"/members", nil)
	request.Header.Set("Authorization", "Bearer "+alice.token)
	b.ReportAllocs()
	for b.Loop() {
		w.handler.ServeHTTP(httptest.NewRecorder(), request)
	}
}
