package federation_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
)

const tokenText = "a-token"

// offer makes an invite by address to a room of the house, and returns what the identity server would sign for a user.
func (h *house) offer(room matrix.RoomID) (sign func(user matrix.UserID) json.RawMessage) {
	h.t.Helper()
	key, err := signing.Generate(rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = h.rooms.SendState(h.t.Context(), h.as("alice"), roomserver.SendState{
		Room: room, Type: event.TypeThirdPartyInvite, StateKey: tokenText,
		Content: fmt.Appendf(nil, `{"display_name":"b...@mail","key_validity_url":"https://id.example/ok","public_key":%q}`,
			signing.EncodeBase64(key.Public())),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return func(user matrix.UserID) json.RawMessage {
		signed, err := signing.SignJSON(fmt.Appendf(nil, `{"mxid":%q,"token":%q}`, user, tokenText), "id.example", key)
		if err != nil {
			h.t.Fatal(err)
		}
		return signed
	}
}

func pendingInvite(room matrix.RoomID, sender, user matrix.UserID, signed json.RawMessage) remote.OnBind {
	return remote.OnBind{Medium: "email", Address: "bob@mail", UserID: user, Invites: []remote.PendingInvite{{
		Medium: "email", Address: "bob@mail", UserID: user, RoomID: room, Sender: sender, Signed: signed,
	}}}
}

// onBind is what an identity server tells a house.
func (h *house) onBind(in remote.OnBind) int {
	h.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		h.t.Fatal(err)
	}
	rw := httptest.NewRecorder()
	h.door.ServeHTTP(rw, httptest.NewRequest("PUT", path("v1", "3pid", "onbind"), strings.NewReader(string(text))))
	return rw.Code
}

func TestThirdPartyInvite(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat", Version: "11"})
	sign := host.offer(room)
	if got := guest.onBind(pendingInvite(room, host.user("alice"), guest.user("bob"), sign(guest.user("bob")))); got != 200 {
		t.Fatalf("onbind: status %d, want 200", got)
	}
	wantMember(t, "at the host", host.member(room, guest.user("bob")), event.Invite)
	wantMember(t, "at the guest", guest.stands("bob", room).Membership, event.Invite)
	if err := guest.join("bob", room); err != nil {
		t.Fatal(err)
	}
	// The address may be that of a user of the host itself.
	if got := host.onBind(pendingInvite(room, host.user("alice"), host.user("bob"), sign(host.user("bob")))); got != 200 {
		t.Fatalf("onbind at home: status %d, want 200", got)
	}
	wantMember(t, "at home", host.member(room, host.user("bob")), event.Invite)
}

// What an identity server has not signed makes no invite; and of what it has, nothing but what belongs there is signed
// by us.
func TestThirdPartyInviteRefused(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat", Version: "11"})
	sign := host.offer(room)
	bob := guest.user("bob")
	content := func(signed json.RawMessage) json.RawMessage {
		return json.RawMessage(`{"membership":"invite","evil":1,"third_party_invite":{"display_name":"evil","signed":` + string(signed) + `}}`)
	}
	good := remote.ThirdPartyInvite{
		Type: event.TypeMember, RoomID: room, Sender: host.user("alice"), StateKey: bob, Content: content(sign(bob)),
	}
	for _, c := range []struct {
		name  string
		alter func(*remote.ThirdPartyInvite)
	}{
		{"another type", func(in *remote.ThirdPartyInvite) { in.Type = event.TypePowerLevels }},
		{"another membership", func(in *remote.ThirdPartyInvite) {
			in.Content = json.RawMessage(strings.Replace(string(in.Content), `"invite"`, `"join"`, 1))
		}},
		{"a user of the host", func(in *remote.ThirdPartyInvite) { in.StateKey = host.user("bob") }},
		{"signed for another", func(in *remote.ThirdPartyInvite) { in.Content = content(sign(guest.user("alice"))) }},
		{"a wrong signature", func(in *remote.ThirdPartyInvite) {
			in.Content = json.RawMessage(strings.Replace(string(in.Content), `"ed25519:`, `"ed25519:x`, 1))
			in.Content = json.RawMessage(strings.Replace(string(in.Content), `":"`, `":"AAAA`, 3))
		}},
		{"nothing signed", func(in *remote.ThirdPartyInvite) { in.Content = json.RawMessage(`{"membership":"invite"}`) }},
		{"more is signed than belongs there", func(in *remote.ThirdPartyInvite) {
			in.Content = content(json.RawMessage(strings.Replace(string(sign(bob)), `"mxid"`, `"evil":1,"mxid"`, 1)))
		}},
	} {
		in := good
		c.alter(&in)
		err := guest.remote.ExchangeThirdPartyInvite(t.Context(), host.name, in)
		invited := host.member(room, in.StateKey)
		if c.name == "more is signed than belongs there" {
			// It is left out, so what the identity server has signed is whole again.
			wantMember(t, c.name, invited, event.Invite)
			state, _ := host.rooms.Current(t.Context(), room)
			_, ev, _ := state.Member(t.Context(), bob)
			if strings.Contains(string(ev.JSON), "evil") {
				t.Errorf("%s: signed %s", c.name, ev.JSON)
			}
			continue
		}
		if err == nil || invited != "" {
			t.Errorf("%s: got %v, membership %q; want it refused", c.name, err, invited)
		}
	}
	many := pendingInvite(room, host.user("alice"), bob, sign(bob))
	for range 20 {
		many.Invites = append(many.Invites, many.Invites[0])
	}
	if got := guest.onBind(many); got != 413 {
		t.Errorf("many invites: status %d, want 413", got)
	}
	if got := guest.onBind(pendingInvite(room, host.user("alice"), guest.user("nobody"), nil)); got != 404 {
		t.Errorf("nobody's address: status %d, want 404", got)
	}
}
