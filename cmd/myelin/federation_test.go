package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/storage/storagetest"
)

// TestFederation is a day in the life of two servers, and of a third that comes to it later.
func TestFederation(t *testing.T) {
	eachMix(t, 3, func(t *testing.T, f *fleet) {
		a, b, c := f.servers[0], f.servers[1], f.servers[2]
		alice, bob, carol := a.watcher(t, "alice"), b.watcher(t, "bob"), c.watcher(t, "carol")
		for _, version := range []string{"10", "11", "12"} {
			t.Run("version "+version, func(t *testing.T) { chat(t, version, []*watcher{alice, bob, carol}, f.servers) })
		}
		// Of whom nothing was heard before: what was so when the room was joined has to do.
		t.Run("moment", func(t *testing.T) { moment(t, a.watcher(t, "dora"), b.watcher(t, "emil"), b.name) })
		t.Run("jump", func(t *testing.T) { jump(t, alice, bob, a) })
		t.Run("members", func(t *testing.T) { comeAndGo(t, alice, bob, carol) })
		t.Run("elsewhere", func(t *testing.T) { elsewhere(t, alice, bob, a.name) })
	})
}

// chat is a public room, made by the first, that the others join one after the other.
func chat(t *testing.T, version string, all []*watcher, servers []*fleetServer) {
	alice, bob, carol := all[0], all[1], all[2]
	room := alice.must(t, "POST", "/createRoom", fmt.Sprintf(`{"preset":"public_chat","room_version":%q}`, version)).text("room_id")
	for i := range 30 {
		alice.say(room, fmt.Sprintf("before %d", i))
	}
	bob.join(room, servers[0])
	alice.sees(room, bob.user, "join")
	bob.sees(room, alice.user, "join")
	alice.say(room, "hello bob")
	bob.hears(room, "hello bob")
	bob.say(room, "hello alice")
	alice.hears(room, "hello alice")

	carol.join(room, servers[1]) // of whom alice's server knows nothing yet
	alice.sees(room, carol.user, "join")
	bob.sees(room, carol.user, "join")
	for _, w := range all {
		w.say(room, "I am "+w.user)
	}
	for _, w := range all {
		for _, other := range all {
			w.hears(room, "I am "+other.user)
		}
	}
	// The history of a room is there for who came later.
	for _, w := range all[1:] {
		var bodies []string
		for _, e := range listIn(readAll(t, w, room), "chunk") {
			if body, ok := objectIn(e, "content")["body"].(string); ok {
				bodies = append(bodies, body)
			}
		}
		for i := range 30 {
			if n := count(bodies, fmt.Sprintf("before %d", i)); n != 1 {
				t.Errorf("version %s: %s finds %q %d times in the history, want once", version, w.user, fmt.Sprintf("before %d", i), n)
			}
		}
	}
	once(t, room, all)
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// readAll reads a room backwards to its beginning, as one page. Pages are read again while history still comes.
func readAll(t *testing.T, w *watcher, room string) map[string]any {
	t.Helper()
	var all []any
	seen := map[string]bool{}
	for from, more := "", true; more; more = from != "" {
		r := w.must(t, "GET", inRoom(room, "/messages?dir=b&limit=20&from=%s", from), "")
		for _, e := range listIn(r.body, "chunk") {
			if id := e["event_id"].(string); seen[id] {
				t.Errorf("/messages tells %s twice", id)
			} else {
				seen[id] = true
			}
			all = append(all, e)
		}
		from = r.text("end")
	}
	return map[string]any{"chunk": all}
}

// once holds that everybody was told of each message once.
func once(t *testing.T, room string, all []*watcher) {
	t.Helper()
	for _, w := range all {
		for key, n := range w.counts {
			if key[0] == room && n != 1 {
				t.Errorf("%s is told %q %d times, want once", w.user, key[1], n)
			}
		}
	}
}

// moment is what is true for the moment: typing, receipts, presence.
func moment(t *testing.T, dora, emil *watcher, ofEmil string) {
	room := emil.must(t, "POST", "/createRoom", `{"preset":"public_chat","room_alias_name":"moment"}`).text("room_id")
	dora.must(t, "POST", "/join/%23moment:"+ofEmil, `{}`)
	emil.sees(room, dora.user, "join")
	for _, pair := range [][2]*watcher{{dora, emil}, {emil, dora}} {
		from, to := pair[0], pair[1]
		path := inRoom(room, "/typing/%s", from.user)
		from.must(t, "PUT", path, `{"typing":true,"timeout":30000}`)
		to.until(from.user+" to type", func() bool { return slices.Contains(to.typing[room], from.user) })
		from.must(t, "PUT", path, `{"typing":false}`)
		to.until(from.user+" to stop typing", func() bool { return !slices.Contains(to.typing[room], from.user) })

		id := to.say(room, "read this, "+from.user)
		from.hears(room, "read this, "+from.user)
		from.must(t, "POST", inRoom(room, "/receipt/m.read/%s", id), `{}`)
		to.until("a receipt of "+from.user, func() bool { return to.receipts[[3]string{room, id, from.user}] })

		from.must(t, "PUT", "/presence/"+from.user+"/status", `{"presence":"unavailable","status_msg":"out"}`)
		to.until("presence of "+from.user, func() bool { return to.presence[from.user] == [2]string{"unavailable", "out"} })
	}
}

// comeAndGo is a private room that people are invited to, leave and are thrown out of.
func comeAndGo(t *testing.T, alice, bob, carol *watcher) {
	room := alice.must(t, "POST", "/createRoom", `{"preset":"private_chat"}`).text("room_id")
	alice.act(room, "invite", bob)
	bob.until("an invite", func() bool { return bob.invites[room] })
	bob.join(room)
	alice.sees(room, bob.user, "join")
	bob.say(room, "thank you")
	alice.hears(room, "thank you")

	bob.act(room, "invite", carol)
	carol.until("an invite", func() bool { return carol.invites[room] })
	carol.must(t, "POST", inRoom(room, "/leave"), `{}`)
	alice.sees(room, carol.user, "leave")
	bob.sees(room, carol.user, "leave")

	alice.act(room, "invite", carol)
	carol.until("another invite", func() bool { return carol.invites[room] })
	carol.join(room)
	bob.sees(room, carol.user, "join")
	alice.act(room, "kick", carol)
	carol.until("to be kicked", func() bool { return carol.left[room] })
	bob.sees(room, carol.user, "leave")

	alice.act(room, "ban", bob)
	bob.until("to be banned", func() bool { return bob.left[room] })
	if r, err := bob.ask(t.Context(), "POST", inRoom(room, "/join"), `{}`); err != nil || r.status != http.StatusForbidden {
		t.Errorf("bob joins where he is banned: got %d %v, %v, want 403", r.status, r.body, err)
	}
	alice.act(room, "unban", bob)
	alice.act(room, "invite", bob)
	bob.until("to be invited again", func() bool { return bob.invites[room] })
	bob.join(room)
	bob.sees(room, bob.user, "join")
	alice.sees(room, bob.user, "join")
	bob.must(t, "POST", inRoom(room, "/leave"), `{}`)
	alice.sees(room, bob.user, "leave")

	// An invite that is taken back.
	alice.act(room, "invite", carol)
	carol.until("a third invite", func() bool { return carol.invites[room] })
	delete(carol.left, room)
	alice.act(room, "kick", carol)
	carol.until("the invite to be gone", func() bool { return carol.left[room] })
}

// elsewhere is what one server asks of another for its users.
func elsewhere(t *testing.T, alice, bob *watcher, ofAlice string) {
	alice.must(t, "PUT", "/profile/"+alice.user+"/displayname", `{"displayname":"Alice in Wonderland"}`)
	if got := bob.must(t, "GET", "/profile/"+alice.user, "").text("displayname"); got != "Alice in Wonderland" {
		t.Errorf("the name of alice, asked elsewhere: got %q", got)
	}
	room := alice.must(t, "POST", "/createRoom", `{"preset":"public_chat","visibility":"public","name":"Tea","room_alias_name":"tea"}`).text("room_id")
	if got := bob.must(t, "GET", "/directory/room/%23tea:"+ofAlice, "").text("room_id"); got != room {
		t.Errorf("the alias, asked elsewhere: got %q, want %s", got, room)
	}
	found := listIn(bob.must(t, "GET", "/publicRooms?server="+ofAlice, "").body, "chunk")
	if !slices.ContainsFunc(found, func(r map[string]any) bool { return r["room_id"] == room && r["name"] == "Tea" }) {
		t.Errorf("the public rooms, asked elsewhere: got %v, want %s", found, room)
	}
	// A knock, and its answer.
	closed := alice.must(t, "POST", "/createRoom",
		`{"preset":"private_chat","initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"knock"}}]}`).text("room_id")
	bob.must(t, "POST", "/knock/"+closed+"?via="+ofAlice, `{"reason":"please"}`)
	alice.sees(closed, bob.user, "knock")
	alice.act(closed, "invite", bob)
	bob.until("the answer to his knock", func() bool { return bob.invites[closed] })
	bob.join(closed)
	alice.sees(closed, bob.user, "join")
	// A room for the members of another.
	members := alice.must(t, "POST", "/createRoom", fmt.Sprintf(`{"preset":"private_chat","initial_state":[{"type":"m.room.join_rules",
		"content":{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%q}]}}]}`, closed)).text("room_id")
	bob.must(t, "POST", "/join/"+members+"?via="+ofAlice, `{}`)
	alice.sees(members, bob.user, "join")
}

// meetIn makes a room of all.
func meetIn(t *testing.T, f *fleet, all []*watcher) (room string) {
	t.Helper()
	room = all[0].must(t, "POST", "/createRoom", `{"preset":"public_chat","power_level_content_override":{"state_default":0}}`).text("room_id")
	for _, w := range all[1:] {
		w.join(room, f.servers[0])
	}
	for _, w := range all {
		for _, other := range all {
			w.sees(room, other.user, "join")
		}
	}
	return room
}

// TestFederationPartition: a server that was away gets what it has missed, and what it said before is not lost, however
// it went away.
func TestFederationPartition(t *testing.T) {
	eachMix(t, 3, func(t *testing.T, f *fleet) {
		all := []*watcher{f.servers[0].watcher(t, "alice"), f.servers[1].watcher(t, "bob"), f.servers[2].watcher(t, "carol")}
		rooms := []string{meetIn(t, f, all), meetIn(t, f, all)}
		said := 0
		speak := func(who ...*watcher) {
			for range 20 {
				for _, w := range who {
					for _, room := range rooms {
						w.say(room, fmt.Sprintf("%d of %s", said, w.user))
						said++
					}
				}
			}
		}
		for i := range all {
			away, stay := f.servers[i], slices.Delete(slices.Clone(all), i, i+1)
			speak(all...)
			if i%2 == 0 {
				away.stop(t)
			} else {
				away.kill()
			}
			speak(stay...)
			stay[0].must(t, "PUT", inRoom(rooms[0], "/state/m.room.topic/"), fmt.Sprintf(`{"topic":"without %d"}`, i))
			away.start(t)
			speak(all...)
		}
		for _, room := range rooms {
			agree(t, room, all, said/len(rooms))
		}
	})
}

// agree waits until everybody was told of all messages of a room, and holds that nobody was told of one twice, and that
// the servers have the same state.
func agree(t *testing.T, room string, all []*watcher, messages int) {
	t.Helper()
	for _, w := range all {
		w.until(fmt.Sprintf("%d messages", messages), func() bool { return len(w.bodies[room]) >= messages })
	}
	once(t, room, all)
	sortState := func(w *watcher) []string {
		var ids []string
		path := "/rooms/" + url.PathEscape(room) + "/state"
		for _, e := range w.mustList(t, path) {
			ids = append(ids, e["event_id"].(string))
		}
		slices.Sort(ids)
		return ids
	}
	want := sortState(all[0])
	for _, w := range all[1:] {
		if got := sortState(w); !slices.Equal(got, want) {
			t.Errorf("the state of %s: %s has %v, and %s has %v", room, w.user, got, all[0].user, want)
		}
	}
}

// TestFederationKill9 kills servers while all of them send and receive, again and again: what a client was told is sent
// is told to everybody, once.
func TestFederationKill9(t *testing.T) {
	eachMix(t, 3, func(t *testing.T, f *fleet) {
		dice := crashDice(t)
		all := []*watcher{f.servers[0].watcher(t, "alice"), f.servers[1].watcher(t, "bob"), f.servers[2].watcher(t, "carol")}
		room := meetIn(t, f, all)
		var sent [3]int
		for round := range *crashRounds {
			sent = underFire(t, fire{f, all, room, round}, sent, dice)
		}
		agree(t, room, all, sent[0]+sent[1]+sent[2])
	})
}

// fire is a round of killing.
type fire struct {
	*fleet
	all   []*watcher
	room  string
	round int
}

// fireMin is how many messages each user sends before a server is killed, and after.
const fireMin = 60

// underFire has everybody speak, and kills a server meanwhile. It returns how much each has said.
func underFire(t *testing.T, in fire, sent [3]int, dice *rand.Rand) [3]int {
	var speakers sync.WaitGroup
	var now [3]atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), settleTime)
	defer cancel()
	for i, w := range in.all {
		speakers.Go(func() {
			for n := range 2 * fireMin {
				insist(ctx, t, w, in.room, sent[i]+n)
				now[i].Add(1)
			}
		})
	}
	victim := in.servers[dice.IntN(len(in.servers))]
	for slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool { return now[i].Load() < fireMin }) && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Duration(dice.IntN(50_000)) * time.Microsecond) // the moment is what the test is about
	victim.kill()
	victim.start(t)
	speakers.Wait()
	for i := range sent {
		sent[i] += 2 * fireMin
	}
	return sent
}

// insist sends a message until that is acknowledged.
func insist(ctx context.Context, t *testing.T, w *watcher, room string, n int) {
	path := inRoom(room, "/send/m.room.message/n%d", n)
	body := fmt.Sprintf(`{"msgtype":"m.text","body":"%d of %s"}`, n, w.user)
	for {
		r, err := w.ask(ctx, "PUT", path, body)
		if err == nil && r.status == http.StatusOK {
			return
		}
		if ctx.Err() != nil || err == nil && r.status != http.StatusServiceUnavailable {
			t.Errorf("%s cannot send %d: got %d %v, %v", w.user, n, r.status, r.body, err)
			return
		}
		time.Sleep(retryTime)
	}
}

// TestFederationSwitch: a server that keeps to itself has no routes for others, and counts nothing of them.
func TestFederationSwitch(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		c := settingsIn(t, storagetest.Dir(t))
		c.Federation.Enabled = enabled
		server := start(t, c)
		want := http.StatusNotFound
		if enabled {
			want = http.StatusOK
		}
		for _, path := range []string{"/_matrix/federation/v1/version", "/_matrix/key/v2/server"} {
			if got, _ := fetch(t, server.url+path); got != want {
				t.Errorf("enabled %t: %s: got %d, want %d", enabled, path, got, want)
			}
		}
		_, counts := fetch(t, server.url+"/metrics")
		if got := strings.Contains(counts, "\nmyelin_federation_failing_destinations 0\n"); got != enabled {
			t.Errorf("enabled %t: other servers are counted: got %t", enabled, got)
		}
	}
}

func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
