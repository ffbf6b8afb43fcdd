package remote_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// show is a value as JSON.
func show(t *testing.T, v any) string { return strings.TrimSpace(string(mustJSON(t, v))) }

func TestQueries(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	tooLong := `{"x":"` + strings.Repeat("x", 17<<20) + `"}`
	spaceRoom := `"room_id":"!s:them.example","world_readable":false,"guest_can_join":false,"num_joined_members":2`
	for _, c := range []struct {
		name, request, answer, want string
		ask                         func() (any, error)
	}{
		{"version", "GET /_matrix/federation/v1/version", `{"server":{"name":"x","version":"1"}}`, `{"name":"x","version":"1"}`,
			func() (any, error) { return w.client.Version(ctx, them) }},
		{"profile", "GET /_matrix/federation/v1/query/profile?user_id=%40bob%3Athem.example",
			`{"displayname":"Bob","avatar_url":null,"x.y":[1]}`, `{"displayname":"Bob","x.y":[1]}`,
			func() (any, error) { return w.client.Profile(ctx, bob, "") }},
		{"field of a profile", "GET /_matrix/federation/v1/query/profile?field=displayname&user_id=%40bob%3Athem.example",
			`{"displayname":"Bob","x.y":[1]}`, `{"displayname":"Bob"}`,
			func() (any, error) { return w.client.Profile(ctx, bob, "displayname") }},
		{"alias", "GET /_matrix/federation/v1/query/directory?room_alias=%23a+b%3Athem.example",
			`{"room_id":"!r:them.example","servers":["them.example",7,"a b","x.example"]}`,
			`{"room_id":"!r:them.example","servers":["them.example","x.example"]}`,
			func() (any, error) { return w.client.Alias(ctx, "#a b:them.example") }},
		{"public rooms", "GET /_matrix/federation/v1/publicRooms?include_all_networks=true&limit=5&since=s&third_party_instance_id=n",
			`{"chunk":[{` + spaceRoom + `},{"room_id":"x"},{"room_id":7},"y"],"next_batch":"n","total_room_count_estimate":9}`,
			`{"chunk":[{` + spaceRoom + `}],"next_batch":"n","total_room_count_estimate":9}`,
			func() (any, error) {
				return w.client.PublicRooms(ctx, them, remote.PublicRoomsRequest{Limit: 5, Since: "s", AllNetworks: true, Network: "n"})
			}},
		{"all public rooms", "GET /_matrix/federation/v1/publicRooms", `{"chunk":null}`, `{"chunk":[]}`,
			func() (any, error) { return w.client.PublicRooms(ctx, them, remote.PublicRoomsRequest{}) }},
		{"search of public rooms", "POST /_matrix/federation/v1/publicRooms", `{"chunk":[]}`, `{"chunk":[]}`,
			func() (any, error) {
				return w.client.PublicRooms(ctx, them, remote.PublicRoomsRequest{
					Filter: &remote.PublicRoomsFilter{Term: "x", RoomTypes: []*string{nil}}})
			}},
		{"hierarchy", "GET /_matrix/federation/v1/hierarchy/%21s:them.example?suggested_only=true",
			`{"room":{` + spaceRoom + `,"allowed_room_ids":["x"],"children_state":[
				{"type":"m.space.child","state_key":"!c:x","sender":"@u:x","origin_server_ts":1,"content":{}},
				{"type":"m.space.child","state_key":"c","sender":"@u:x","origin_server_ts":1,"content":{}},
				{"type":"m.space.child","state_key":"!c:x","sender":"@u:x","origin_server_ts":1,"content":[]},
				{"type":"m.room.name","state_key":"!c:x","sender":"@u:x","origin_server_ts":1,"content":{}},
				{"type":"m.space.child","state_key":"!c:x","sender":"u","origin_server_ts":1,"content":{}}]},
			 "children":[{` + spaceRoom + `},{"room_id":"x"},[]],"inaccessible_children":["!x:y","z",1]}`,
			`{"room":{` + spaceRoom + `,"children_state":[{"type":"m.space.child","state_key":"!c:x","sender":"@u:x","origin_server_ts":1,` +
				`"content":{}}]},"children":[{` + spaceRoom + `}],"inaccessible_children":["!x:y"]}`,
			func() (any, error) {
				return w.client.Hierarchy(ctx, them, remote.Space{Room: "!s:them.example", SuggestedOnly: true})
			}},
		{"devices", "GET /_matrix/federation/v1/user/devices/@bob:them.example",
			`{"user_id":"@bob:them.example","stream_id":5,"devices":[{"device_id":"D","keys":{}},{"device_id":"","keys":{}},{"device_id":"E"},7],"master_key":{}}`,
			`{"user_id":"@bob:them.example","stream_id":5,"devices":[{"device_id":"D","keys":{}}],"master_key":{}}`,
			func() (any, error) { return w.client.UserDevices(ctx, bob) }},
		{"keys", "POST /_matrix/federation/v1/user/keys/query",
			`{"device_keys":{"@bob:them.example":{"D":{},"E":{}},"@carl:them.example":{"X":{},"Y":{}},"@alice:us.example":{"A":{}}},
			  "master_keys":{"@bob:them.example":{},"@eve:them.example":{}},"self_signing_keys":{"@alice:us.example":{}}}`,
			`{"device_keys":{"@bob:them.example":{"D":{}},"@carl:them.example":{"X":{},"Y":{}}},"master_keys":{"@bob:them.example":{}}}`,
			func() (any, error) {
				return w.client.UserKeys(ctx, them, remote.KeysQuery{DeviceKeys: map[matrix.UserID][]matrix.DeviceID{
					bob: {"D"}, "@carl:them.example": nil, alice: {"A"}}})
			}},
		{"claim", "POST /_matrix/federation/v1/user/keys/claim",
			`{"one_time_keys":{"@bob:them.example":{"D":{"a:b":{"key":"x"}},"E":{"a:b":"y"}},"@alice:us.example":{"D":{"a:b":"z"}}}}`,
			`{"one_time_keys":{"@bob:them.example":{"D":{"a:b":{"key":"x"}}}}}`,
			func() (any, error) {
				return w.client.ClaimKeys(ctx, them, remote.KeysClaim{OneTimeKeys: remote.ByDevice[string]{bob: {"D": "a"}, alice: {"D": "a"}}})
			}},
	} {
		w.says(c.answer)
		got, err := c.ask()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		w.checkAsked(c.request)
		if show(t, got) != c.want {
			t.Errorf("%s: got %s, want %s", c.name, show(t, got), c.want)
		}
		for _, text := range []string{``, `[]`, `"x"`, `1000000000`, `{"`} {
			w.says(text)
			_, err := c.ask()
			checkError(t, c.name+" of "+text, err, remote.ErrBadAnswer)
		}
		w.says(tooLong)
		_, err = c.ask()
		checkError(t, c.name+" of 17 MB", err, outbound.ErrTooLarge)
	}
}

// Answers that are of something else than what was asked for.
func TestQueriesForeign(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, c := range []struct {
		name, answer string
		ask          func() error
	}{
		{"devices", `{"user_id":"@eve:them.example","stream_id":5,"devices":[]}`,
			func() error { _, err := w.client.UserDevices(ctx, bob); return err }},
		{"hierarchy", `{"room":{"room_id":"!other:them.example"},"children":[]}`,
			func() error {
				_, err := w.client.Hierarchy(ctx, them, remote.Space{Room: "!s:them.example"})
				return err
			}},
		{"alias", `{"room_id":"r","servers":[]}`,
			func() error { _, err := w.client.Alias(ctx, "#a:them.example"); return err }},
	} {
		w.says(c.answer)
		checkError(t, c.name, c.ask(), remote.ErrBadAnswer)
	}
}

// Short elements, of which a great many fit into an answer, end it early.
func TestManyElements(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	ctx := t.Context()
	many := strings.Repeat("1,", 11_000) + "1"
	members := strings.Repeat(`"a":1,`, 11_000) + `"a":1`
	for _, c := range []struct {
		name, answer string
		ask          func() error
	}{
		{"public rooms", `{"chunk":[` + many + `]}`,
			func() error { _, err := w.client.PublicRooms(ctx, them, remote.PublicRoomsRequest{}); return err }},
		{"devices", `{"user_id":"@bob:them.example","devices":[` + many + `]}`,
			func() error { _, err := w.client.UserDevices(ctx, bob); return err }},
		{"state", `{"pdus":[` + many + `]}`, func() error { _, err := w.client.State(ctx, them, r.at("$x")); return err }},
		{"members of state", `{` + members + `}`, func() error { _, err := w.client.State(ctx, them, r.at("$x")); return err }},
		{"servers in a room", `{"servers_in_room":[` + many + `]}`,
			func() error {
				_, err := w.client.SendJoin(ctx, them, remote.JoinRequest{Join: r.member(joins)})
				return err
			}},
		{"keys", `{"device_keys":{` + members + `}}`,
			func() error { _, err := w.client.UserKeys(ctx, them, remote.KeysQuery{}); return err }},
	} {
		w.says(c.answer)
		checkError(t, c.name, c.ask(), remote.ErrBadAnswer)
	}
}

// Servers written in Go may say null for what is empty.
func TestNullKeys(t *testing.T) {
	w := newWorld(t)
	w.says(`{"device_keys":{"@bob:them.example":null},"master_keys":null,"self_signing_keys":null}`)
	got, err := w.client.UserKeys(t.Context(), them, remote.KeysQuery{DeviceKeys: map[matrix.UserID][]matrix.DeviceID{bob: nil}})
	if want := `{"device_keys":{"@bob:them.example":{}}}`; err != nil || show(t, got) != want {
		t.Errorf("got %s, %v; want %s", show(t, got), err, want)
	}
}

func TestKeysQueryIsNotChanged(t *testing.T) {
	w := newWorld(t)
	w.says(`{}`)
	query := remote.KeysQuery{DeviceKeys: map[matrix.UserID][]matrix.DeviceID{bob: nil}}
	if _, err := w.client.UserKeys(t.Context(), them, query); err != nil {
		t.Fatal(err)
	}
	if got, want := string(w.lastBody()), `{"device_keys":{"@bob:them.example":[]}}`; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	if query.DeviceKeys[bob] != nil {
		t.Error("the caller's query was changed")
	}
}

func TestVersionIsAskedUnsigned(t *testing.T) {
	w := newWorld(t)
	w.says(`{}`)
	if _, err := w.client.Version(t.Context(), them); err != nil {
		t.Fatal(err)
	}
	if got := w.asked[0].Header.Get("Authorization"); got != "" {
		t.Errorf("Authorization: got %q", got)
	}
}

func TestExplain(t *testing.T) {
	answered := func(status int, code matrix.ErrorCode) error {
		return fmt.Errorf("join: %w", &outbound.RemoteError{Server: them, Status: status, Code: code, Message: "x"})
	}
	for _, c := range []struct {
		name   string
		err    error
		code   matrix.ErrorCode
		status int
	}{
		{"forbidden", answered(403, matrix.Forbidden), matrix.Forbidden, 403},
		{"unable to grant", answered(400, matrix.UnableToGrantJoin), matrix.UnableToGrantJoin, 400},
		{"invite blocked", answered(403, matrix.InviteBlocked), matrix.InviteBlocked, 403},
		{"a token of ours is not meant", answered(401, matrix.UnknownToken), matrix.Unknown, 502},
		{"not the fault of the client", answered(400, matrix.InvalidParam), matrix.Unknown, 502},
		{"not the fault of the client, either", answered(400, matrix.MissingParam), matrix.Unknown, 502},
		{"an odd status", answered(500, matrix.Forbidden), matrix.Unknown, 502},
		{"a code of its own", answered(403, "X_WHAT"), matrix.Unknown, 502},
		{"nonsense", fmt.Errorf("x: %w", remote.ErrBadAnswer), matrix.Unknown, 502},
		{"too large", outbound.ErrTooLarge, matrix.Unknown, 502},
		{"not reached", errors.New("dial"), matrix.Unknown, 502},
		{"ours", matrix.Errorf(matrix.Forbidden, "denied"), matrix.Forbidden, 403},
	} {
		var got *matrix.Error
		if !errors.As(remote.Explain(c.err), &got) || got.Code != c.code || got.Status() != c.status {
			t.Errorf("%s: got %v, want %s and %d", c.name, got, c.code, c.status)
		}
	}
	if err := remote.Explain(nil); err != nil {
		t.Errorf("no error: got %v", err)
	}
	limited := &outbound.RemoteError{Server: them, Status: 429, Code: matrix.LimitExceeded, RetryAfter: 2e9}
	var got *matrix.Error
	if !errors.As(remote.Explain(limited), &got) || got.Fields["retry_after_ms"] != int64(2000) {
		t.Errorf("limited: got %+v", got)
	}
}

func TestDenied(t *testing.T) {
	w := newWorld(t)
	w.says(`{}`)
	_, err := w.client.Version(t.Context(), "denied.example")
	checkCode(t, "a server that is not talked to", remote.Explain(err), matrix.Forbidden)
	w.checkAsked()
}
