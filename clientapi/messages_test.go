package clientapi

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/myelin-chat/myelin/storage"
)

func at(p storage.Position) string { return strconv.FormatInt(int64(p), 10) }

func TestMessages(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	start := "t" + at(w.db.Position()) + "_0"
	for i := range 5 {
		r.say(alice, strconv.Itoa(i))
	}
	get := func(pairs ...string) *answer {
		t.Helper()
		return alice.get(r.path + "/messages" + query(pairs...)).ok()
	}
	page := get("dir", "b", "limit", "2")
	wants(t, "the last page", page.bodies("chunk"), "4 3")
	page.has(r.id, "chunk", "0", "room_id")
	page = get("dir", "b", "limit", "2", "from", page.str("end"))
	wants(t, "the page before", page.bodies("chunk"), "2 1")
	wants(t, "and back again", get("dir", "f", "from", page.str("end"), "limit", "2").bodies("chunk"), "1 2")
	wants(t, "to a token", get("dir", "b", "from", page.str("end"), "to", start).has(nil, "end").bodies("chunk"), "0")
	forth := get("dir", "f", "from", start)
	wants(t, "forth", forth.has(start, "start").has(nil, "end").bodies("chunk"), "0 1 2 3 4")
	wants(t, "from a sync token", get("dir", "f", "from", "sx_"+at(w.db.Position()-1)+"_0_y_0").bodies("chunk"), "4")
	wants(t, "from the first", get("dir", "f", "limit", "2").bodies("chunk"), "m.room.create m.room.member")
	wants(t, "no more than the default", fmt.Sprint(len(get("dir", "b").at("chunk").([]any))), "10")
	all := get("dir", "b", "limit", "5000")
	wants(t, "all", all.has(nil, "end").bodies("chunk"), "4 3 2 1 0 m.room.guest_access m.room.history_visibility "+
		"m.room.join_rules m.room.power_levels m.room.member m.room.create")
	none := get("dir", "b", "limit", "0")
	wants(t, "none", none.bodies("chunk"), "")
	wants(t, "and on from there", get("dir", "b", "limit", "1", "from", none.str("end")).bodies("chunk"), "4")
	wants(t, "the wrong way", get("dir", "f", "from", start, "to", "t0_0").has(nil, "end").bodies("chunk"), "")
}

func TestMessagesFilter(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	r.join(bob)
	r.say(alice, "one")
	r.say(bob, "two")
	r.send(alice, "m.room.message", object{"body": "three", "url": "mxc://example.org/a"})
	for filter, want := range map[string]string{
		`{"types":["m.room.message"]}`:                                 "three two one",
		`{"types":["m.*"],"not_types":["m.room.*s*"],"limit":2}`:       "m.room.member m.room.member",
		`{"senders":["@bob:example.org"],"types":["m.room.message"]}`:  "two",
		`{"not_senders":["@alice:example.org"],"types":["*.message"]}`: "two",
		`{"contains_url":true}`:                                        "three",
		`{"contains_url":false,"types":["m.room.message"]}`:            "two one",
		`{"types":[]}`:                   "",
		`{"rooms":[]}`:                   "",
		`{"not_rooms":["` + r.id + `"]}`: "",
		`{"rooms":["` + r.id + `"],"types":["m.room.message"],"limit": 1}`: "three",
	} {
		wants(t, filter, alice.get(r.path+"/messages"+query("dir", "b", "filter", filter)).ok().bodies("chunk"), want)
	}
}

func TestMessagesLazyMembers(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	r := alice.newRoom(publicChat)
	r.join(bob, carol)
	r.say(bob, "one")
	r.say(carol, "two")
	r.leave(carol)
	filter := `{"lazy_load_members":true,"types":["m.room.message"]}`
	page := alice.get(r.path + "/messages" + query("dir", "b", "limit", "1", "filter", filter)).ok()
	wants(t, "as at her message", page.users("state"), "carol=join")
	page.has(r.id, "state", "0", "room_id")
	page = alice.get(r.path + "/messages" + query("dir", "b", "filter", filter)).ok()
	wants(t, "both", page.users("state"), "bob=join carol=join")
	alice.get(r.path+"/messages?dir=b").has(nil, "state")
}

func TestMessagesRefusals(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	for params, code := range map[string]string{
		"":                                   "M_MISSING_PARAM",
		"?dir=x":                             "M_INVALID_PARAM",
		"?dir=b&limit=x":                     "M_INVALID_PARAM",
		"?dir=b&limit=-1":                    "M_INVALID_PARAM",
		"?dir=b&from=nonsense":               "M_INVALID_PARAM",
		"?dir=b&to=t1":                       "M_INVALID_PARAM",
		"?dir=b&filter=nonsense":             "M_NOT_JSON",
		"?dir=b&filter=%7B%22types%22:1%7D":  "M_BAD_JSON",
		"?dir=b&filter=%7B%22limit%22:-1%7D": "M_BAD_JSON",
		"?dir=b&filter=%7B%22senders%22:%5B%22not_a_sender_id%22%5D%7D": "M_BAD_JSON",
	} {
		if a := alice.get(r.path + "/messages" + params); a.status != 400 || a.at("errcode") != code {
			t.Errorf("%s: got %d %s, want 400 %s", a.request, a.status, a.text, code)
		}
	}
}

// Nothing is missing and nothing comes twice, whatever the page size.
func TestMessagesWalk(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	for i := range 30 {
		r.say(alice, strconv.Itoa(i))
	}
	for _, dir := range []string{"b", "f"} {
		for _, size := range []string{"1", "7", "36", "37"} {
			seen, from := map[string]bool{}, ""
			for more := true; more; {
				page := alice.get(r.path + "/messages" + query("dir", dir, "limit", size, "from", from)).ok()
				for i := range page.at("chunk").([]any) {
					id := page.str("chunk", strconv.Itoa(i), "event_id")
					if seen[id] {
						t.Errorf("dir %s, limit %s: %s came twice", dir, size, id)
					}
					seen[id] = true
				}
				from, more = page.at("end").(string)
			}
			if len(seen) != 36 {
				t.Errorf("dir %s, limit %s: got %d events, want 36", dir, size, len(seen))
			}
		}
	}
}

func BenchmarkMessages(b *testing.B) {
	w := newWorld(b)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	for i := range 200 {
		r.say(alice, strconv.Itoa(i))
	}
	for b.Loop() {
		alice.get(r.path + "/messages?dir=b&limit=20").ok()
	}
}
