package clientapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// room is a room as its creator sees it.
type room struct {
	w    *world
	id   string
	path string // /rooms/{id}
	sent int
}

// newRoom makes a room.
func (c *client) newRoom(body object) *room {
	c.w.t.Helper()
	id := c.post("/createRoom", body).ok().str("room_id")
	return &room{w: c.w, id: id, path: "/rooms/" + id}
}

// say sends a text, and returns the ID of the event.
func (r *room) say(c *client, text string) string {
	c.w.t.Helper()
	return r.send(c, "m.room.message", object{"msgtype": "m.text", "body": text})
}

func (r *room) send(c *client, typ string, content any) string {
	c.w.t.Helper()
	r.sent++
	return c.put(fmt.Sprintf("%s/send/%s/txn%d", r.path, typ, r.sent), content).ok().str("event_id")
}

// set sends a state event with the empty state key.
func (r *room) set(c *client, typ string, content any) string {
	c.w.t.Helper()
	return c.put(r.path+"/state/"+typ, content).ok().str("event_id")
}

func (r *room) join(who ...*client) {
	r.w.t.Helper()
	for _, c := range who {
		c.post(r.path+"/join", object{}).ok()
	}
}

func (r *room) leave(who ...*client) {
	r.w.t.Helper()
	for _, c := range who {
		c.post(r.path+"/leave", object{}).ok()
	}
}

// move invites, kicks, bans or unbans.
func (r *room) move(by *client, what string, target *client) *answer {
	r.w.t.Helper()
	return by.post(r.path+"/"+what, object{"user_id": target.user})
}

// withVisibility is a public room with a history visibility.
func withVisibility(visibility string) object {
	return object{"preset": "public_chat", "initial_state": []object{{
		"type": "m.room.history_visibility", "state_key": "", "content": object{"history_visibility": visibility},
	}}}
}

var publicChat = object{"preset": "public_chat"}

// bodies lists what was said, or the types of other events, in a list of the answer.
func (a *answer) bodies(path ...string) string {
	a.t.Helper()
	list, ok := a.at(path...).([]any)
	if !ok {
		a.t.Fatalf("%s: got %d %s, want a list at %v", a.request, a.status, a.text, path)
	}
	var all []string
	for _, e := range list {
		content, _ := e.(object)["content"].(object)
		if body, ok := content["body"].(string); ok {
			all = append(all, body)
		} else {
			all = append(all, e.(object)["type"].(string))
		}
	}
	return strings.Join(all, " ")
}

// users lists the users of member events in a list of the answer, with their memberships.
func (a *answer) users(path ...string) string {
	a.t.Helper()
	list, ok := a.at(path...).([]any)
	if !ok {
		a.t.Fatalf("%s: got %d %s, want a list at %v", a.request, a.status, a.text, path)
	}
	var all []string
	for _, e := range list {
		e := e.(object)
		if e["type"] != "m.room.member" {
			a.t.Errorf("%s: got a %v in %v", a.request, e["type"], path)
			continue
		}
		name, _, _ := strings.Cut(e["state_key"].(string), ":")
		all = append(all, strings.TrimPrefix(name, "@")+"="+e["content"].(object)["membership"].(string))
	}
	return strings.Join(all, " ")
}

// query writes query parameters, given in pairs.
func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return "?" + v.Encode()
}

// wants compares two texts.
func wants(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// Whoever is outside gets the same answer for a room that there is and one that there is not.
func TestOutsideOfRooms(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(object{})
	id := r.say(alice, "secret")
	requests := []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", "/state", nil, 403},
		{"GET", "/state/m.room.create", nil, 403},
		{"GET", "/members", nil, 403},
		{"GET", "/joined_members", nil, 403},
		{"GET", "/messages?dir=b", nil, 403},
		{"GET", "/event/" + id, nil, 404},
		{"GET", "/context/" + id, nil, 404},
		{"GET", "/aliases", nil, 403},
		{"PUT", "/state/m.room.name", object{"name": "mine"}, 403},
		{"PUT", "/send/m.room.message/1", object{}, 403},
		{"PUT", "/redact/" + id + "/2", object{}, 403},
		{"POST", "/invite", object{"user_id": "@carol:example.org"}, 403},
		{"POST", "/kick", object{"user_id": "@carol:example.org"}, 403},
		{"POST", "/ban", object{"user_id": "@carol:example.org"}, 403},
		{"POST", "/unban", object{"user_id": "@carol:example.org"}, 403},
		{"POST", "/leave", object{}, 403},
		{"POST", "/forget", object{}, 403},
		{"POST", "/receipt/m.read/" + id, object{}, 403},
		{"POST", "/read_markers", object{"m.read": id}, 403},
		{"PUT", "/typing/" + string(bob.user), object{"typing": true}, 403},
	}
	for _, x := range requests {
		code := map[int]string{403: "M_FORBIDDEN", 404: "M_NOT_FOUND"}[x.status]
		for _, path := range []string{r.path, "/rooms/!dXIiBjPsEvuVNqMmiFWbVG37-1j8J_gK84TgTuw3WTM"} {
			a := bob.do(x.method, path+x.path, x.body)
			if a.status != x.status || a.at("errcode") != code {
				t.Errorf("%s: got %d %s, want %d %s", a.request, a.status, a.text, x.status, code)
			}
		}
		bob.do(x.method, "/rooms/nonsense"+x.path, x.body).fails(400, "M_INVALID_PARAM")
		w.outcast.do(x.method, r.path+x.path, x.body).fails(401, "M_MISSING_TOKEN")
	}
}
