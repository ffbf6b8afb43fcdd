package federation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

func redactionOf(room rooms.Room, id matrix.EventID) roomserver.RedactEvent {
	return roomserver.RedactEvent{Room: room.ID, Event: id}
}

func typingOf(room rooms.Room, user matrix.UserID, typing bool) string {
	return fmt.Sprintf(`{"edu_type":"m.typing","content":{"room_id":%q,"user_id":%q,"typing":%v}}`, room.ID, user, typing)
}

func presenceOf(user matrix.UserID, state string) string {
	return fmt.Sprintf(`{"edu_type":"m.presence","content":{"push":[{"user_id":%q,"presence":%q,"status_msg":"s","last_active_ago":5000}]}}`, user, state)
}

func TestEDUs(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	id := w.say(room, "hello")
	them.send(nil, typingOf(room, bob, true), presenceOf(bob, "online"), receiptOf(room, bob, id))
	if users, _ := w.ephemeral.Typing(room.ID); len(users) != 1 || users[0] != bob {
		t.Errorf("typing: got %v, want bob", users)
	}
	if got := w.ephemeral.Presence(bob); got.State != ephemeral.Online || got.Status != "s" || got.LastActiveAgo.Seconds() != 5 {
		t.Errorf("presence: got %+v, want online, 5s ago", got)
	}
	w.settle()
	receipts, err := rooms.ReceiptsOfUser(t.Context(), w.db, room.Num, bob)
	if err != nil || len(receipts) != 1 || receipts[0].Event != id || receipts[0].TS != 5 {
		t.Errorf("receipts: got %v, %v, want one of %s at 5", receipts, err, id)
	}
	them.send(nil, typingOf(room, bob, false))
	if users, _ := w.ephemeral.Typing(room.ID); len(users) != 0 {
		t.Errorf("after the end: got %v, want nobody", users)
	}
}

// A receipt for an event of the same transaction finds it.
func TestReceiptOfTheSameTransaction(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	e := them.message(room, "hello")
	them.send([]*event.Event{e}, receiptOf(room, bob, e.ID))
	w.settle()
	receipts, err := rooms.ReceiptsOfUser(t.Context(), w.db, room.Num, bob)
	if err != nil || len(receipts) != 1 {
		t.Errorf("got %v, %v, want one", receipts, err)
	}
}

// A server speaks for its own users only, and for those who are in the room.
func TestCVE_2023_42453_EDUsOfOthers(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	third := w.peer("third.example", 3)
	room := w.room("shared")
	them.join(room)
	w.device("A")
	id := w.say(room, "hello")
	const dave = matrix.UserID("@dave:third.example")
	for _, p := range []*peer{third, them} {
		for _, user := range []matrix.UserID{alice, bob, dave, "@carol:them.example", "carol", ""} {
			if p == them && user == bob {
				continue
			}
			p.send(nil, typingOf(room, user, true), presenceOf(user, "online"), receiptOf(room, user, id),
				fmt.Sprintf(`{"edu_type":"m.device_list_update","content":{"user_id":%q,"device_id":"D","stream_id":1}}`, user),
				fmt.Sprintf(`{"edu_type":"m.signing_key_update","content":{"user_id":%q}}`, user),
				fmt.Sprintf(`{"edu_type":"m.direct_to_device","content":{"sender":%q,"type":"m.x","message_id":"1","messages":{"@alice:us.example":{"*":{}}}}}`, user))
		}
	}
	w.settle()
	if users, _ := w.ephemeral.Typing(room.ID); len(users) != 0 {
		t.Errorf("typing: got %v, want nobody", users)
	}
	receipts, err := rooms.Receipts(t.Context(), w.db, room.Num, storage.Span{UpTo: w.db.Position()})
	if err != nil || len(receipts) != 0 {
		t.Errorf("receipts: got %v, %v, want none", receipts, err)
	}
	// Messages to devices need no room.
	if got, want := w.mail("A"), []string{"@dave:third.example {}", "@carol:them.example {}"}; !slices.Equal(got, want) {
		t.Errorf("messages: got %q, want those of users of the server that sent them: %q", got, want)
	}
	for _, user := range []matrix.UserID{alice, bob, dave, "@carol:them.example"} {
		if got := w.ephemeral.Presence(user); got.Known {
			t.Errorf("presence of %s: got %+v, want none", user, got)
		}
	}
}

func TestEDUsOfADeniedServer(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	id := w.say(room, "hello")
	w.set(room, event.TypeServerACL, `{"allow":["*"],"deny":["them.example"]}`)
	them.send(nil, typingOf(room, bob, true), receiptOf(room, bob, id))
	w.settle()
	if users, _ := w.ephemeral.Typing(room.ID); len(users) != 0 {
		t.Errorf("typing: got %v, want nobody", users)
	}
	if receipts, _ := rooms.ReceiptsOfUser(t.Context(), w.db, room.Num, bob); len(receipts) != 0 {
		t.Errorf("receipts: got %v, want none", receipts)
	}
}

func FuzzTransaction(f *testing.F) {
	w := newWorld(f)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	good := them.message(room, "x")
	f.Add(`{"pdus":[` + string(good.JSON) + `],"edus":[` + typingOf(room, bob, true) + `]}`)
	f.Add(`{"pdus":[{"room_id":"` + string(room.ID) + `"}],"edus":[` + presenceOf(bob, "online") + `]}`)
	f.Add(`{"pdus":null,"edus":[{"edu_type":"m.receipt","content":{"!r":{"m.read":{"@b:c":null}}}}]}`)
	n := 0
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "content") && len(body) > 100_000 {
			return
		}
		n++
		_, err := w.api.Intake.Take(t.Context(), them.name, fmt.Sprint(n), []byte(body))
		if err != nil && matrix.CodeOf(err) == matrix.Unknown {
			t.Errorf("%s: got %v, want an error that its sender can be told", body, err)
		}
	})
}

// Who names rooms and users by the thousand, of whom nobody here has heard, makes this server look for some of them only.
func TestEDUsOfStrangers(t *testing.T) {
	const most = 1000
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	id := w.say(room, "hello")
	strangers, nowhere := make([]string, most), make([]string, most)
	for i := range most {
		strangers[i] = fmt.Sprintf(`{"user_id":"@u%d:them.example","presence":"online"}`, i)
		nowhere[i] = fmt.Sprintf(`"!r%d:them.example":{"m.read":{}}`, i)
	}
	presence := `{"edu_type":"m.presence","content":{"push":[` + strings.Join(strangers, ",") + `]}}`
	receipts := `{"edu_type":"m.receipt","content":{` + strings.Join(nowhere, ",") + `}}`
	them.send(nil, presence, receipts, presenceOf(bob, "online"), receiptOf(room, bob, id))
	w.settle()
	if got := w.ephemeral.Presence(bob); got.Known {
		t.Errorf("bob behind %d strangers: got %+v, want nobody looked for him", most, got)
	}
	if got, _ := rooms.ReceiptsOfUser(t.Context(), w.db, room.Num, bob); len(got) != 0 {
		t.Errorf("a receipt behind %d rooms that are not here: got %v, want nobody looked for it", most, got)
	}
	them.send(nil, presenceOf(bob, "online"), receiptOf(room, bob, id)) // another transaction
	w.settle()
	if got, _ := rooms.ReceiptsOfUser(t.Context(), w.db, room.Num, bob); len(got) != 1 || !w.ephemeral.Presence(bob).Known {
		t.Errorf("by themselves: got %v and presence known %v, want both taken", got, w.ephemeral.Presence(bob).Known)
	}
}
