package network_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/network"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound/outboundtest"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const peer = matrix.ServerName("peer.example")

func peerKey(t *testing.T, seed byte) signing.Key {
	t.Helper()
	k, err := signing.NewKey("ed25519:k", bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// peerKeys is what the peer publishes.
func peerKeys(t *testing.T, key signing.Key) []byte {
	t.Helper()
	obj, err := canonical.Marshal(map[string]any{
		"server_name": peer, "valid_until_ts": time.Now().Add(time.Hour).UnixMilli(), "old_verify_keys": map[string]any{},
		"verify_keys": map[signing.KeyID]any{key.ID(): map[string]string{"key": signing.EncodeBase64(key.Public())}},
	})
	if err == nil {
		obj, err = signing.SignJSON(obj, peer, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// newRemote makes the remote of a server whose only peer answers with script, beside its keys.
func newRemote(t *testing.T, script http.HandlerFunc) (network.Rooms, *keys.Ring) {
	t.Helper()
	document := peerKeys(t, peerKey(t, 2))
	net := outboundtest.New(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/matrix/server":
			rw.WriteHeader(404)
		case "/_matrix/key/v2/server":
			rw.Write(document)
		default:
			script(rw, r)
		}
	})
	client := outboundtest.Client(t, net.Settings("us.example", peerKey(t, 1)))
	ring, err := keys.New(t.Context(), keys.Settings{
		DB: storagetest.Open(t, storagetest.SQLite), Client: client, ServerName: "us.example", Key: peerKey(t, 1),
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	return network.NewRooms(remote.New(remote.Settings{HTTP: client, Verifier: ring, Log: log})), ring
}

// peerEvents are two events of a room, of which the second has the signature of another key.
func peerEvents(t *testing.T, v *event.Version) (good, bad *event.Event) {
	t.Helper()
	made := make([]*event.Event, 2)
	for i := range made {
		var err error
		made[i], err = event.Build(v, event.Proto{
			Type: event.TypeMessage, RoomID: "!r:peer.example", Sender: matrix.UserID("@u:" + peer), Content: []byte(`{}`),
			PrevEvents: []matrix.EventID{"$p"}, AuthEvents: []matrix.EventID{"$a"}, Depth: int64(i + 2),
			OriginServerTS: time.Now().UnixMilli(),
		}, peer, peerKey(t, byte(2+i)))
		if err != nil {
			t.Fatal(err)
		}
	}
	return made[0], made[1]
}

func TestRooms(t *testing.T) {
	v, _ := event.VersionOf("11")
	good, bad := peerEvents(t, v)
	var asked string
	ask, _ := newRemote(t, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.RequestURI + string(body)
		list := fmt.Sprintf(`[%s,%s]`, good.JSON, bad.JSON)
		fmt.Fprintf(rw, `{"pdus":%s,"events":%s,"auth_chain":%s,"pdu_ids":["$s"],"auth_chain_ids":["$a"]}`, list, list, list)
	})
	room := rooms.Room{Num: 7, ID: good.RoomID, Version: v}
	one := func(events ...*event.Event) string {
		var got []matrix.EventID
		for _, e := range events {
			got = append(got, e.ID)
		}
		return fmt.Sprint(got)
	}
	only := one(good)
	ctx := t.Context()
	const at = "/_matrix/federation/v1/"
	for _, c := range []struct {
		name, asked, want string
		ask               func() (string, error)
	}{
		{"missing events", at + `get_missing_events/%21r:peer.example{"earliest_events":["$e"],"latest_events":["$l"],"limit":4,"min_depth":5}`,
			only + "1", func() (string, error) {
				got, err := ask.MissingEvents(ctx, peer, roomserver.Gap{
					Room: room, Earliest: []matrix.EventID{"$e"}, Latest: []matrix.EventID{"$l"}, Limit: 4, MinDepth: 5})
				return one(got.Events...) + fmt.Sprint(got.Broken), err
			}},
		{"state IDs", at + "state_ids/%21r:peer.example?event_id=%24x", "{[$s] [$a]}", func() (string, error) {
			got, err := ask.StateIDs(ctx, peer, room, "$x")
			return fmt.Sprint(got), err
		}},
		{"state", at + "state/%21r:peer.example?event_id=%24x", only + only, func() (string, error) {
			got, err := ask.State(ctx, peer, room, "$x")
			return one(got.State...) + one(got.Auth...), err
		}},
		{"event", at + "event/" + string(good.ID), only, func() (string, error) {
			got, err := ask.Event(ctx, peer, room, good.ID)
			return one(got), err
		}},
		{"auth chain", at + "event_auth/%21r:peer.example/$x", only, func() (string, error) {
			got, err := ask.EventAuth(ctx, peer, room, "$x")
			return one(got...), err
		}},
		{"backfill", at + "backfill/%21r:peer.example?limit=9&v=%24f", only, func() (string, error) {
			got, err := ask.Backfill(ctx, peer, roomserver.History{Room: room, From: []matrix.EventID{"$f"}, Limit: 9})
			return one(got...), err
		}},
	} {
		got, err := c.ask()
		if err != nil || got != c.want {
			t.Errorf("%s: got %s, %v; want %s", c.name, got, err, c.want)
		}
		if asked != c.asked {
			t.Errorf("%s: asked %s, want %s", c.name, asked, c.asked)
		}
	}
	if got, err := ask.Event(ctx, peer, room, "$other"); got != nil || err != nil {
		t.Errorf("an event other than asked for: got %v, %v", got, err)
	}
}

func TestVerifyObject(t *testing.T) {
	_, ring := newRemote(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(404) })
	for _, c := range []struct {
		name string
		seed byte
		want matrix.ErrorCode
	}{{"right", 2, ""}, {"another key", 3, matrix.InvalidSignature}} {
		obj, err := signing.SignJSON([]byte(`{"a":1}`), peer, peerKey(t, c.seed))
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.VerifyObject(t.Context(), obj, peer, 0); matrix.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want the code %q", c.name, err, c.want)
		}
	}
}

// What the policy server says is passed on word by word if it refuses; that it is out of order is told apart.
func TestPolicySign(t *testing.T) {
	v, _ := event.VersionOf("11")
	ev, _ := peerEvents(t, v)
	signer, err := signing.NewKey(remote.PolicyKey, bytes.Repeat([]byte{5}, 32))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ev.Sign(peer, signer)
	if err != nil {
		t.Fatal(err)
	}
	signature, _ := canonical.String(canonical.Get(signed.JSON, "signatures", string(peer), string(signer.ID())))
	good := fmt.Sprintf(`{%q:{%q:%q}}`, peer, signer.ID(), signature)
	var status int
	var answer string
	ask, _ := newRemote(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		io.WriteString(rw, answer)
	})
	for _, c := range []struct {
		status int
		answer string
		want   int // status of the error; 0: none
		text   string
	}{
		{200, good, 0, ""},
		{400, `{"errcode":"M_FORBIDDEN","error":"it is spam"}`, 400, "it is spam"},
		{403, `{"errcode":"M_FORBIDDEN","error":"go away"}`, 403, "go away"},
		{200, `{}`, 403, "the policy server peer.example of this room has not signed the event"},
		{200, `{"peer.example":{"ed25519:policy_server":"AAAA"}}`, 403, "the policy server peer.example of this room has not signed the event"},
		{404, `{"errcode":"M_UNRECOGNIZED","error":"x"}`, 502, "peer.example could not do it: x"},
		{500, `{"errcode":"M_FORBIDDEN","error":"x"}`, 502, "peer.example could not do it: x"},
	} {
		status, answer = c.status, c.answer
		got, err := ask.PolicySign(t.Context(), policy.Server{Name: peer, Key: signer.Public()}, ev)
		if c.want == 0 {
			if err != nil || got.ID != ev.ID || event.VerifySignature(got, peer, signer.ID(), signer.Public()) != nil {
				t.Errorf("%s: got %v, %v, want the event signed", c.answer, got, err)
			}
			continue
		}
		said, ok := err.(*matrix.Error)
		if !ok || said.Status() != c.want || said.Message != c.text {
			t.Errorf("%d %s: got %v, want %d %q", c.status, c.answer, err, c.want, c.text)
		}
	}
}
