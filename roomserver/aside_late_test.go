package roomserver_test

import (
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// A leave whose answer comes late ends no ban that the room has told of meanwhile.
func TestLateLeaveLeavesBan(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		host, guest := newSite(t, "host.org"), siteOn(t, "guest.org", db)
		room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
		if err := guest.adopt(host, room, "bob"); err != nil {
			t.Fatal(err)
		}
		told, err := host.MakeLeave(background, guest.visit(room, "bob"))
		if err != nil {
			t.Fatal(err)
		}
		leave := guest.build(told, nil)
		if err := host.Ban(background, host.as("alice"), roomserver.Move{Room: room, Target: guest.user("bob")}); err != nil {
			t.Fatal(err)
		}
		ban := host.stands(room, guest.user("bob"))
		events, err := host.Events(background, mustRoom(t, host, room), []int64{ban.EventNum})
		if err != nil {
			t.Fatal(err)
		}
		if got := guest.Receive(background, host.name, room, []*event.Event{events[0].Event})[0]; got.Outcome != roomserver.Accepted {
			t.Fatalf("the ban: got outcome %d, %v", got.Outcome, got.Err)
		}
		before := db.Position()
		if err := guest.Left(background, guest.user("bob"), room, leave); err != nil {
			t.Fatal(err)
		}
		table, state := guest.stands(room, guest.user("bob")).Membership, guest.membership(room, guest.user("bob"))
		if table != event.Ban || state != event.Ban || db.Position() != before {
			t.Errorf("bob is %s by the table and %s by the state, with %d news; want ban, and none", table, state, db.Position()-before)
		}
	})
}

// A knock that has found its place in the room, where the user is banned meanwhile, is over, whether the room or the answer
// to the knock comes first.
func TestKnockMeetsBan(t *testing.T) {
	for name, first := range map[string]bool{"the room comes first": true, "the answer comes first": false} {
		t.Run(name, func(t *testing.T) {
			host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
			room, bob := host.create(roomserver.CreateRoom{Preset: "public_chat"}), guest.user("bob")
			if err := guest.adopt(host, room, "bob"); err != nil {
				t.Fatal(err)
			}
			tell := func(from, to *site, num int64, want roomserver.Outcome) {
				t.Helper()
				events, err := from.Events(background, mustRoom(t, from, room), []int64{num})
				if err != nil {
					t.Fatal(err)
				}
				if got := to.Receive(background, from.name, room, []*event.Event{events[0].Event})[0]; got.Outcome != want {
					t.Fatalf("%s: got outcome %d, %v; want %d", events[0].Type, got.Outcome, got.Err, want)
				}
			}
			id, err := host.SendState(background, host.as("alice"), roomserver.SendState{
				Room: room, Type: "m.room.join_rules", Content: []byte(`{"join_rule":"knock"}`),
			})
			if err != nil {
				t.Fatal(err)
			}
			rules, _, err := rooms.EventByID(background, host.db, mustRoom(t, host, room), id)
			if err != nil {
				t.Fatal(err)
			}
			tell(host, guest, rules.Num, roomserver.Accepted)
			if err := guest.Leave(background, guest.as("bob"), room, ""); err != nil {
				t.Fatal(err)
			}
			tell(guest, host, guest.stands(room, bob).EventNum, roomserver.Accepted)
			told, err := host.MakeKnock(background, guest.visit(room, "bob"))
			if err != nil {
				t.Fatal(err)
			}
			knock := guest.build(told, nil)
			if err := host.Ban(background, host.as("alice"), roomserver.Move{Room: room, Target: bob}); err != nil {
				t.Fatal(err)
			}
			tell(host, guest, host.stands(room, bob).EventNum, roomserver.Accepted)
			for _, byRoom := range []bool{first, !first} {
				if !byRoom {
					if err := guest.Knocked(background, knock, nil); err != nil {
						t.Fatal(err)
					}
				} else if got := guest.Receive(background, host.name, room, []*event.Event{knock})[0]; got.Outcome != roomserver.SoftFailed {
					t.Fatalf("the knock: got outcome %d, %v; want it soft-failed", got.Outcome, got.Err)
				}
			}
			if m := guest.stands(room, bob); m.Membership != event.Ban || guest.membership(room, bob) != event.Ban {
				t.Errorf("bob is %s by the table and %s by the state, want ban", m.Membership, guest.membership(room, bob))
			}
		})
	}
}
