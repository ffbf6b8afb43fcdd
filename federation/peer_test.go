package federation_test

import (
	"fmt"
	"strings"
	"testing"

	peerapi "github.com/myelin-chat/myelin/federation/peer"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// Nobody speaks for another server, and what was signed is what is done.
func TestCVE_2024_6301_WhoAsks(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	uri := path("v1", "query", "profile") + "?user_id=@alice:us.example"
	them.get(uri).into(new(any))
	if len(w.heard) != 1 || w.heard[0] != them.name {
		t.Errorf("heard of: got %v, want %s", w.heard, them.name)
	}
	sign := func(change func(*outbound.SignedRequest), k signing.Key) string {
		r := outbound.SignedRequest{Method: "GET", URI: uri, Origin: them.name, Destination: us}
		change(&r)
		return r.Sign(k).String()
	}
	same := func(*outbound.SignedRequest) {}
	for name, header := range map[string]string{
		"nobody":                "",
		"a token":               "Bearer x",
		"garbage":               "X-Matrix origin=",
		"another key":           sign(same, newKey(t, 77)),
		"another path":          sign(func(r *outbound.SignedRequest) { r.URI = uri + "&x" }, them.key),
		"another method":        sign(func(r *outbound.SignedRequest) { r.Method = "PUT" }, them.key),
		"a path encoded anew":   sign(func(r *outbound.SignedRequest) { r.URI = strings.Replace(uri, "@", "%40", 1) }, them.key),
		"another destination":   sign(func(r *outbound.SignedRequest) { r.Destination = "other.example" }, them.key),
		"an origin unknown":     sign(func(r *outbound.SignedRequest) { r.Origin = "nowhere.example" }, them.key),
		"a body not signed for": sign(func(r *outbound.SignedRequest) { r.Content = []byte("{}") }, them.key),
	} {
		a := w.ask("GET", uri, nil, header)
		if a.status != 401 {
			t.Errorf("%s: got %d %s, want 401", name, a.status, a.body)
		}
	}
	denied := w.peer("denied.example", 9)
	denied.get(uri).fails(403, matrix.Forbidden)
	ourselves := &peer{w: w, name: us, key: newKey(t, 1)}
	ourselves.get(uri).fails(401, matrix.Unauthorized)
	if len(w.heard) != 1 {
		t.Errorf("heard of: got %v, want nobody who was refused", w.heard)
	}
}

func TestBodyLimits(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	long := []byte(`{"x":"` + strings.Repeat("x", 64<<10) + `"}`)
	them.post(path("v1", "publicRooms"), long).fails(413, matrix.TooLarge)
	w.ask("POST", "/_matrix/key/v2/query", long, "").fails(413, matrix.TooLarge)
	them.post(path("v1", "user", "keys", "query"), []byte(`{"device_keys":`)).fails(400, matrix.NotJSON)
	// Before somebody claims to ask, nothing of the body is read.
	w.ask("PUT", path("v1", "send", "1"), []byte(strings.Repeat("x", 16<<20)), "").fails(401, matrix.Unauthorized)
}

func TestRateLimits(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	w.limits.Read = httpapi.NewLimit(config.Limit{PerSecond: 1, Burst: 2}, w.clock)
	w.build()
	uri := path("v1", "query", "profile") + "?user_id=@alice:us.example"
	them.get(uri).into(new(any))
	them.get(uri).into(new(any))
	them.get(uri).fails(429, matrix.LimitExceeded)
	w.peer("other.example", 3).get(uri).into(new(any))
	// Nobody signs what makes this server ask others.
	w.limits.Heavy = httpapi.NewLimit(config.Limit{PerSecond: 1, Burst: 1}, w.clock)
	w.build()
	bind := []byte(`{"mxid":"@alice:us.example"}`)
	w.ask("PUT", path("v1", "3pid", "onbind"), bind, "").is(`{}`)
	w.ask("PUT", path("v1", "3pid", "onbind"), bind, "").fails(429, matrix.LimitExceeded)
	if got := peerapi.NewLimits(config.RateLimits{}, w.clock); got != (peerapi.Limits{}) {
		t.Errorf("limits that are off: got %+v, want none", got)
	}
	if got := peerapi.NewLimits(config.RateLimits{Enabled: true}, w.clock); got.Transaction == nil || got.Address == nil {
		t.Errorf("limits that are on: got %+v, want all", got)
	}
}

func TestKeysAndVersion(t *testing.T) {
	w := newWorld(t)
	w.them()
	for _, uri := range []string{"/_matrix/key/v2/server", "/_matrix/key/v2/server/ed25519:old"} {
		var out struct {
			ServerName matrix.ServerName         `json:"server_name"`
			Keys       map[signing.KeyID]any     `json:"verify_keys"`
			Signatures map[matrix.ServerName]any `json:"signatures"`
		}
		w.ask("GET", uri, nil, "").into(&out)
		if out.ServerName != us || out.Keys["ed25519:k"] == nil || out.Signatures[us] == nil {
			t.Errorf("%s: got %+v, want our key, signed", uri, out)
		}
	}
	var told struct {
		Keys []struct {
			ServerName matrix.ServerName         `json:"server_name"`
			Signatures map[matrix.ServerName]any `json:"signatures"`
		} `json:"server_keys"`
	}
	check := func(what string) {
		t.Helper()
		if len(told.Keys) != 1 || told.Keys[0].ServerName != "them.example" || told.Keys[0].Signatures[us] == nil {
			t.Errorf("%s: got %+v, want the keys of them.example with our signature", what, told)
		}
	}
	w.ask("GET", "/_matrix/key/v2/query/them.example?minimum_valid_until_ts=1", nil, "").into(&told)
	check("GET")
	w.ask("POST", "/_matrix/key/v2/query", []byte(`{"server_keys":{"them.example":{}}}`), "").into(&told)
	check("POST")
	w.ask("GET", "/_matrix/key/v2/query/them.example?minimum_valid_until_ts=x", nil, "").fails(400, matrix.InvalidParam)
	w.ask("GET", "/_matrix/key/v2/query/!", nil, "").fails(400, matrix.InvalidParam)
	w.ask("POST", "/_matrix/key/v2/query", []byte(`{}`), "").fails(400, matrix.BadJSON)
	w.ask("GET", path("v1", "version"), nil, "").is(`{"server":{"name":"Myelin","version":"1.2.3"}}`)
	w.ask("GET", path("v1", "nothing"), nil, "").fails(404, matrix.Unrecognized)
	w.ask("POST", path("v1", "version"), nil, "").fails(405, matrix.Unrecognized)
}

func TestOpenIDUserInfo(t *testing.T) {
	w := newWorld(t)
	token, _, err := w.accounts.OpenIDToken(by(alice))
	must(t, err)
	uri := path("v1", "openid", "userinfo")
	w.ask("GET", uri+"?access_token="+token, nil, "").is(`{"sub":"@alice:us.example"}`)
	w.ask("GET", uri+"?access_token=x", nil, "").fails(401, matrix.UnknownToken)
	w.ask("GET", uri, nil, "").fails(401, matrix.MissingToken)
}

func TestQueries(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	_, err := w.accounts.SetProfileField(t.Context(), alice, "displayname", []byte(`"Alice"`))
	must(t, err)
	uri := path("v1", "query", "profile")
	them.get(uri + "?user_id=@alice:us.example").is(`{"displayname":"Alice"}`)
	them.get(uri + "?user_id=@alice:us.example&field=displayname").is(`{"displayname":"Alice"}`)
	them.get(uri+"?user_id=@alice:us.example&field=avatar_url").fails(404, matrix.NotFound)
	them.get(uri+"?user_id=@nobody:us.example").fails(404, matrix.NotFound)
	them.get(uri+"?user_id=@bob:them.example").fails(404, matrix.NotFound)
	them.get(uri+"?user_id=alice").fails(400, matrix.InvalidParam)
	them.get(path("v1", "query", "weather")).fails(404, matrix.Unrecognized)

	room := w.room("shared")
	must(t, w.rooms.SetAlias(t.Context(), by(alice), "#room:us.example", room.ID))
	them.join(room)
	var target remote.AliasTarget
	them.get(path("v1", "query", "directory") + "?room_alias=%23room:us.example").into(&target)
	if target.RoomID != room.ID || len(target.Servers) != 2 || target.Servers[0] != us || target.Servers[1] != them.name {
		t.Errorf("the alias: got %+v, want the room on us and them", target)
	}
	for _, alias := range []string{"%23none:us.example", "%23room:them.example"} {
		them.get(path("v1", "query", "directory")+"?room_alias="+alias).fails(404, matrix.NotFound)
	}
	them.get(path("v1", "query", "directory")+"?room_alias=x").fails(400, matrix.InvalidParam)
}

func TestPublicRooms(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	them.get(path("v1", "publicRooms")).is(`{"chunk":[]}`)
	for _, name := range []string{"Tea", "Coffee"} {
		room := w.room("world_readable")
		w.set(room, "m.room.name", `{"name":"`+name+`"}`)
		must(t, w.rooms.SetVisibility(t.Context(), by(alice), room.ID, true))
	}
	var page remote.PublicRooms
	them.get(path("v1", "publicRooms") + "?limit=1").into(&page)
	if len(page.Chunk) != 1 || page.NextBatch == "" || page.Total != 2 || !page.Chunk[0].WorldReadable || page.Chunk[0].JoinedMembers != 1 {
		t.Errorf("the first page: got %+v, want one room of two", page)
	}
	first := page.Chunk[0].Name
	page = remote.PublicRooms{}
	them.get(path("v1", "publicRooms") + "?limit=1&since=" + "" + "").into(&page)
	if page.Chunk[0].Name != first {
		t.Errorf("the first page again: got %s, want %s", page.Chunk[0].Name, first)
	}
	them.post(path("v1", "publicRooms"), []byte(`{"filter":{"generic_search_term":"tea"}}`)).into(&page)
	if len(page.Chunk) != 1 || page.Chunk[0].Name != "Tea" {
		t.Errorf("the search: got %+v, want Tea", page.Chunk)
	}
	them.post(path("v1", "publicRooms"), []byte(`{"third_party_instance_id":"irc"}`)).is(`{"chunk":[]}`)
	them.post(path("v1", "publicRooms"), []byte(`{"limit":-1}`)).fails(400, matrix.InvalidParam)
	them.get(path("v1", "publicRooms")+"?limit=x").fails(400, matrix.InvalidParam)
	them.get(path("v1", "publicRooms")+"?since=x").fails(400, matrix.InvalidParam)
}

func TestDevices(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	them.get(path("v1", "user", "devices", string(alice))).is(`{"user_id":"@alice:us.example","stream_id":0,"devices":[]}`)
	w.device("A")
	them.get(path("v1", "user", "devices", string(alice))).is(
		fmt.Sprintf(`{"user_id":"@alice:us.example","stream_id":%d,"devices":[]}`, int64(w.db.Position())*1024))
	them.get(path("v1", "user", "devices", "@nobody:us.example")).fails(404, matrix.NotFound)
	them.post(path("v1", "user", "keys", "query"), []byte(`{"device_keys":{"@alice:us.example":[],"@nobody:us.example":[],"@bob:them.example":[],"x":[]}}`)).
		is(`{"device_keys":{"@alice:us.example":{}}}`)
	them.post(path("v1", "user", "keys", "claim"), []byte(`{"one_time_keys":{"@alice:us.example":{"D":"signed_curve25519"}}}`)).
		is(`{"one_time_keys":{}}`)
	them.post(path("v1", "user", "keys", "query"), []byte(`{"device_keys":[]}`)).fails(400, matrix.BadJSON)
}

// Devices of users of other servers are not told of, whatever is known of them here.
func TestCVE_2023_43796_DevicesOfOthers(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	them.join(w.room("shared"))
	them.get(path("v1", "user", "devices", "@bob:them.example")).fails(404, matrix.NotFound)
	w.peer("third.example", 3).get(path("v1", "user", "devices", "@bob:them.example")).fails(404, matrix.NotFound)
}
