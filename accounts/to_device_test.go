package accounts

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/users"
)

// messages reads the body of a request.
func messages(t testing.TB, text string) DeviceMessages {
	t.Helper()
	var all DeviceMessages
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return all
}

// withOthers lets messages go to all servers but one.
func withOthers(s *Settings) {
	s.Permits = func(name matrix.ServerName) error {
		if name == "denied.example" {
			return errors.New("denied")
		}
		return nil
	}
}

// device opens a session of a user, without the cost of a password.
func (w *world) device(user matrix.UserID, ids ...matrix.DeviceID) {
	w.t.Helper()
	for _, id := range ids {
		s := users.Session{Device: id, Token: hashToken(string(user + "/" + matrix.UserID(id)))}
		var err error
		if known, _ := users.Exists(w.ctx, w.db, user); known {
			_, err = w.db.Commit(w.ctx, users.Login{User: user, Session: s})
		} else {
			_, err = w.db.Commit(w.ctx, users.Create{User: users.User{ID: user}, Session: &s})
		}
		wantCode(w.t, "log in", err, "")
	}
}

func requester(user matrix.UserID, device matrix.DeviceID) matrix.Requester {
	return matrix.Requester{Account: user, User: user, Device: device}
}

// wantInbox fails unless these contents wait for a device.
func (w *world) wantInbox(what string, who matrix.Requester, want ...string) {
	w.t.Helper()
	list, err := w.Inbox(w.ctx, who, storage.Span{UpTo: w.db.Position()}, 1000)
	wantCode(w.t, what, err, "")
	var got []string
	for _, m := range list {
		got = append(got, fmt.Sprintf("%s %s %s", m.Sender, m.Type, m.Content))
	}
	if !reflect.DeepEqual(got, want) {
		w.t.Errorf("%s: %s has %q, want %q", what, who.Device, got, want)
	}
}

// owed returns the contents of the EDUs that wait for a server, the message IDs taken out.
func (w *world) owed(server matrix.ServerName) (contents, ids []string) {
	w.t.Helper()
	list, err := servers.EDUsAfter(w.ctx, w.db, server, 0, 1000)
	wantCode(w.t, "owed", err, "")
	for _, e := range list {
		var in map[string]json.RawMessage
		if err := json.Unmarshal(e.Content, &in); err != nil || e.Type != DirectToDevice {
			w.t.Fatalf("owed to %s: got %s %s, %v", server, e.Type, e.Content, err)
		}
		ids = append(ids, string(in["message_id"]))
		delete(in, "message_id")
		text, _ := json.Marshal(in)
		contents = append(contents, string(text))
	}
	return contents, ids
}

const (
	alice = matrix.UserID("@alice:example.org")
	bob   = matrix.UserID("@bob:example.org")
)

func TestSendToDevice(t *testing.T) {
	each(t, func(w *world) {
		w.device(alice, "A")
		w.device(bob, "B1", "B2", "B3")
		send := func(who matrix.Requester, typ, txn, text string) {
			w.t.Helper()
			wantCode(w.t, text, w.SendToDevice(w.ctx, who, ToDevice{Type: typ, TxnID: txn, Messages: messages(w.t, text)}), "")
		}
		from := requester(alice, "A")
		send(from, "m.x", "1", `{"@bob:example.org":{"B1":{"n":1,"f":0.5}},"@nobody:example.org":{"*":{}},"@alice:example.org":{"Z":{}}}`)
		send(from, "m.x", "1", `{"@bob:example.org":{"B1":{"n":1}}}`) // a repeat, whatever is in it
		send(from, "m.y", "1", `{"@bob:example.org":{"B2":{"n":2},"*":{"n":3}}}`)
		send(requester(alice, "A2"), "m.x", "1", `{"@bob:example.org":{"B3":{"n":4}},"@alice:example.org":{"A":{"n":5}}}`)
		send(from, "m.x", "nothing", `{}`)
		w.wantInbox("one device, then all", requester(bob, "B1"), `@alice:example.org m.x {"f":0.5,"n":1}`, `@alice:example.org m.y {"n":3}`)
		w.wantInbox("named beside all", requester(bob, "B2"), `@alice:example.org m.y {"n":2}`)
		w.wantInbox("all, then from another device", requester(bob, "B3"), `@alice:example.org m.y {"n":3}`, `@alice:example.org m.x {"n":4}`)
		w.wantInbox("own", requester(alice, "A"), `@alice:example.org m.x {"n":5}`)
		w.wantInbox("none such", requester(alice, "Z"))
	})
}

func TestSendToDeviceElsewhere(t *testing.T) {
	each(t, func(w *world) {
		w.device(alice, "A")
		w.device(bob, "B")
		send := func(txn, text string) {
			w.t.Helper()
			wantCode(w.t, text, w.SendToDevice(w.ctx, requester(alice, "A"), ToDevice{Type: "m.x", TxnID: txn, Messages: messages(w.t, text)}), "")
		}
		first := `{"@c:far.example":{"*":{"n":1},"C":{"z":1,"a":2}},"@d:far.example":{"D":{}},"@e:else.example":{"E":{}},` +
			`"@f:denied.example":{"F":{}},"@bob:example.org":{"B":{"n":0}}}`
		send("1", first)
		send("1", first)
		send("2", `{"@c:far.example":{"C":{"n":2}}}`)
		w.wantInbox("with others", requester(bob, "B"), `@alice:example.org m.x {"n":0}`)
		contents, ids := w.owed("far.example")
		want := []string{
			`{"messages":{"@c:far.example":{"*":{"n":1},"C":{"a":2,"z":1}},"@d:far.example":{"D":{}}},"sender":"@alice:example.org","type":"m.x"}`,
			`{"messages":{"@c:far.example":{"C":{"n":2}}},"sender":"@alice:example.org","type":"m.x"}`,
		}
		if !reflect.DeepEqual(contents, want) {
			w.t.Errorf("owed: got %q, want %q", contents, want)
		}
		if len(ids) != 2 || ids[0] == ids[1] || len(ids[0]) < 10 || len(ids[0]) > 34 {
			w.t.Errorf("message IDs: got %v, want two of up to 32 characters", ids)
		}
		for server, want := range map[matrix.ServerName]int{"else.example": 1, "denied.example": 0, "example.org": 0} {
			if got, _ := w.owed(server); len(got) != want {
				w.t.Errorf("owed to %s: got %q, want %d", server, got, want)
			}
		}
	}, withOthers)
}

func TestSendToDeviceAlone(t *testing.T) {
	w := onSQLite(t)
	w.device(alice, "A")
	err := w.SendToDevice(w.ctx, requester(alice, "A"), ToDevice{Type: "m.x", TxnID: "1", Messages: messages(t, `{"@c:far.example":{"C":{}}}`)})
	wantCode(t, "to a server that is not spoken to", err, "")
	if got, _ := w.owed("far.example"); len(got) != 0 {
		t.Errorf("owed: got %q, want nothing", got)
	}
}

// Many messages for one server are spread over EDUs of a bearable size, none left out.
func TestSplitMessages(t *testing.T) {
	all := DeviceMessages{"@empty:far.example": {}}
	content := json.RawMessage(`{"x":"` + strings.Repeat("y", 20<<10) + `"}`)
	for i := range 5 {
		user := matrix.UserID(fmt.Sprintf("@u%d:far.example", i))
		all[user] = map[matrix.DeviceID]json.RawMessage{"A": content, `B"`: content}
	}
	all["@u0:far.example"]["C"] = json.RawMessage(`{"x":"` + strings.Repeat("y", maxToDeviceContent-8) + `"}`)
	got := DeviceMessages{"@empty:far.example": {}}
	parts := splitMessages(all)
	for _, part := range parts {
		for user, byDevice := range messages(t, string(part)) {
			for device, content := range byDevice {
				if got[user] == nil {
					got[user] = map[matrix.DeviceID]json.RawMessage{}
				}
				got[user][device] = content
			}
		}
		if len(part) > maxEDUContent+1000 && len(part) > maxToDeviceContent+100 {
			t.Errorf("a part has %d bytes", len(part))
		}
	}
	if !reflect.DeepEqual(got, all) || len(parts) < 5 || len(parts) > 8 {
		t.Errorf("got %d parts that hold %d users, want all of %d in 5 to 8", len(parts), len(got), len(all))
	}
}

func TestSendToDeviceRefusals(t *testing.T) {
	w := onSQLite(t)
	w.device(alice, "A")
	many := DeviceMessages{}
	for i := range maxToDeviceMessages + 1 {
		many[matrix.UserID(fmt.Sprintf("@u%d:example.org", i))] = map[matrix.DeviceID]json.RawMessage{"D": json.RawMessage(`{}`)}
	}
	scattered := DeviceMessages{}
	for i := range maxToDeviceServers + 1 {
		scattered[matrix.UserID(fmt.Sprintf("@u:s%d.example", i))] = map[matrix.DeviceID]json.RawMessage{"D": json.RawMessage(`{}`)}
	}
	large := `{"@bob:example.org":{"B":{"x":"` + strings.Repeat("y", maxToDeviceContent) + `"}}}`
	for _, c := range []struct {
		what string
		typ  string
		all  DeviceMessages
		want matrix.ErrorCode
	}{
		{"no type", "", nil, matrix.InvalidParam},
		{"long type", strings.Repeat("t", 256), nil, matrix.InvalidParam},
		{"no user ID", "m.x", messages(t, `{"bob":{"B":{}}}`), matrix.InvalidParam},
		{"no device ID", "m.x", messages(t, `{"@bob:example.org":{"":{}}}`), matrix.InvalidParam},
		{"no object", "m.x", messages(t, `{"@bob:example.org":{"B":[]}}`), matrix.BadJSON},
		{"nothing", "m.x", messages(t, `{"@bob:example.org":{"B":null}}`), matrix.BadJSON},
		{"what cannot be signed", "m.x", messages(t, `{"@c:far.example":{"C":{"f":0.5}}}`), matrix.BadJSON},
		{"large", "m.x", messages(t, large), matrix.TooLarge},
		{"many", "m.x", many, matrix.TooLarge},
		{"for many servers", "m.x", scattered, matrix.TooLarge},
	} {
		before := w.db.Position()
		err := w.SendToDevice(w.ctx, requester(alice, "A"), ToDevice{Type: c.typ, TxnID: "1", Messages: c.all})
		wantCode(t, c.what, err, c.want)
		if got := w.db.Position(); got != before {
			t.Errorf("%s: the log moved from %d to %d", c.what, before, got)
		}
	}
	ok := ToDevice{Type: "m.x", TxnID: "1", Messages: messages(t, `{"@alice:example.org":{"A":{}}}`)}
	wantCode(t, "with the ID of what was refused", w.SendToDevice(w.ctx, requester(alice, "A"), ok), "")
	w.wantInbox("with the ID of what was refused", requester(alice, "A"), `@alice:example.org m.x {}`)
}

// receive takes all messages, and returns how many bytes were stored.
func (w *world) receive(list []RemoteToDevice) (total int) {
	w.t.Helper()
	for len(list) > 0 {
		rest, bytes, err := w.ReceiveToDevice(w.ctx, list)
		wantCode(w.t, "receive", err, "")
		if err != nil || len(rest) >= len(list) {
			w.t.Fatalf("of %d messages %d are left", len(list), len(rest))
		}
		list, total = rest, total+bytes
	}
	return total
}

// devices opens n sessions of a user.
func (w *world) devices(user matrix.UserID, n int) {
	for i := range n {
		w.device(user, matrix.DeviceID(fmt.Sprintf("D%d", i)))
	}
}

// An asterisk multiplies what a message takes.
func TestToDeviceToTooMany(t *testing.T) {
	w := onSQLite(t)
	w.devices(bob, 65)
	content := json.RawMessage(`{"x":"` + strings.Repeat("y", maxRemoteContent-8) + `"}`)
	all := DeviceMessages{bob: {everyDevice: content}}
	_, err := w.address(w.ctx, all)
	wantCode(t, "more than is stored at once", err, matrix.TooLarge)
	list := []RemoteToDevice{
		{ID: "1", Sender: "@c:far.example", Type: "m.x", Messages: messages(t, `{"@bob:example.org":{"D1":{"n":1}}}`)},
		{ID: "2", Sender: "@c:far.example", Type: "m.x", Messages: all},
		{ID: "3", Sender: "@c:far.example", Type: "m.x", Messages: messages(t, `{"@bob:example.org":{"D1":{"n":2}}}`)},
	}
	w.receive(list)
	w.wantInbox("the others", requester(bob, "D1"), `@c:far.example m.x {"n":1}`, `@c:far.example m.x {"n":2}`)
}

func TestReceiveToDevice(t *testing.T) {
	each(t, func(w *world) {
		w.device(alice, "A")
		w.device(bob, "B1", "B2")
		said := func(id string, sender matrix.UserID, text string) RemoteToDevice {
			return RemoteToDevice{ID: id, Sender: sender, Type: "m.x", Messages: messages(w.t, text)}
		}
		receive := func(list ...RemoteToDevice) {
			w.t.Helper()
			w.receive(list)
		}
		c := matrix.UserID("@c:far.example")
		one := said("1", c, `{"@bob:example.org":{"B1":{"n":1},"Z":{}},"@x:else.example":{"X":{}},"bob":{"B1":{}},"@nobody:example.org":{"*":{}}}`)
		two := said("2", c, `{"@bob:example.org":{"*":{"n":2},"B2":{"n":3}}}`)
		receive(one, two, one)
		receive(two, said("3", c, `{"@bob:example.org":{"B1":{"n":4},"B2":[]}}`), one)
		receive(said("1", "@e:else.example", `{"@bob:example.org":{"B1":{"n":5}}}`))
		receive(said("1", "@d:far.example", `{"@bob:example.org":{"B1":{"n":6}}}`)) // IDs are of the sender
		receive(said("", c, `{"@bob:example.org":{"B1":{"n":7}}}`), said(strings.Repeat("i", 256), c, `{"@bob:example.org":{"B1":{"n":8}}}`),
			RemoteToDevice{ID: "9", Sender: c, Messages: messages(w.t, `{"@bob:example.org":{"B1":{"n":9}}}`)})
		w.wantInbox("in order, once", requester(bob, "B1"), `@c:far.example m.x {"n":1}`, `@c:far.example m.x {"n":2}`,
			`@c:far.example m.x {"n":4}`, `@e:else.example m.x {"n":5}`, `@d:far.example m.x {"n":6}`)
		w.wantInbox("named beside all", requester(bob, "B2"), `@c:far.example m.x {"n":3}`)
		w.wantInbox("not meant", requester(alice, "A"))
		before := w.db.Position()
		receive(one, two)
		receive()
		if got := w.db.Position(); got != before {
			w.t.Errorf("repeats: the log moved from %d to %d", before, got)
		}
	})
}

// More than is stored at once comes in the order in which it was sent.
func TestReceiveManyToDevice(t *testing.T) {
	w := onSQLite(t)
	w.devices(bob, 30)
	var list []RemoteToDevice
	var want []string
	for i := range 100 {
		list = append(list, RemoteToDevice{
			ID: fmt.Sprint(i), Sender: "@c:far.example", Type: "m.x",
			Messages: DeviceMessages{bob: {everyDevice: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))}},
		})
		want = append(want, fmt.Sprintf(`@c:far.example m.x {"n":%d}`, i))
	}
	if bytes, least := w.receive(list), 100*30*len(`{"n":0}`); bytes < least {
		t.Errorf("stored %d bytes, want %d at least", bytes, least)
	}
	if bytes := w.receive(list); bytes != 0 {
		t.Errorf("repeated: stored %d bytes, want none", bytes)
	}
	w.wantInbox("the first", requester(bob, "D0"), want...)
	w.wantInbox("the last", requester(bob, "D29"), want...)
}

func TestInboxIsEmptied(t *testing.T) {
	each(t, func(w *world) {
		w.device(bob, "B1", "B2")
		for i := range 3 {
			text := fmt.Sprintf(`{"@bob:example.org":{"*":{"n":%d}}}`, i)
			wantCode(w.t, text, w.SendToDevice(w.ctx, requester(bob, "B1"), ToDevice{Type: "m.x", TxnID: fmt.Sprint(i), Messages: messages(w.t, text)}), "")
		}
		who := requester(bob, "B1")
		list, err := w.Inbox(w.ctx, who, storage.Span{UpTo: w.db.Position()}, 2)
		if err != nil || len(list) != 2 {
			w.t.Fatalf("the first two: got %v, %v", list, err)
		}
		wantCode(w.t, "empty", w.EmptyInbox(w.ctx, who, list[1].Position), "")
		w.wantInbox("the rest", who, `@bob:example.org m.x {"n":2}`)
		rest, err := w.Inbox(w.ctx, requester(bob, "B2"), storage.Span{UpTo: w.db.Position()}, 9)
		if err != nil || len(rest) != 3 {
			w.t.Errorf("another device: got %v, %v, want all three", rest, err)
		}
		wantCode(w.t, "nothing to empty", w.EmptyInbox(w.ctx, who, list[1].Position), "")
	})
}

// What was taken in is known for a while, not for ever.
func TestKnownToDeviceEnds(t *testing.T) {
	each(t, func(w *world) {
		w.device(bob, "B")
		in := ToDevice{Type: "m.x", TxnID: "1", Messages: messages(w.t, `{"@bob:example.org":{"B":{}}}`)}
		for _, c := range []struct {
			pass time.Duration
			want int
		}{{0, 1}, {knownToDevice - time.Second, 1}, {2 * time.Second, 2}} {
			w.clock.Advance(c.pass)
			wantCode(w.t, "forget", w.forgetKnown(w.ctx), "")
			wantCode(w.t, "send", w.SendToDevice(w.ctx, requester(bob, "B"), in), "")
			list, err := w.Inbox(w.ctx, requester(bob, "B"), storage.Span{UpTo: w.db.Position()}, 9)
			if err != nil || len(list) != c.want {
				w.t.Errorf("after %v: got %d messages, %v, want %d", c.pass, len(list), err, c.want)
			}
		}
	})
}

// fill puts messages into an inbox.
type fill struct {
	to    users.Address
	count int
}

// Rows implements storage.Write.
func (f fill) Rows(it *storage.Item) {
	it.Exec(`
		INSERT INTO to_device (user_id, device_id, position, sender, type, content)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
		SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), i, '@s:elsewhere', 'm.test', '{}' FROM n`, f.to.User, f.to.Device, f.count)
}

// An inbox loses nothing while its device is in use, and what came last never.
func TestInboxOfUnusedDevice(t *testing.T) {
	each(t, func(w *world) {
		w.device(alice, "A")
		who := requester(alice, "A")
		used := func() {
			w.Seen(who, "127.0.0.1")
			wantCode(t, "write that it was seen", w.flushSeen(w.ctx), "")
		}
		used()
		const over = 2500
		_, err := w.db.Commit(w.ctx, fill{to: addressOf(who), count: maxUnusedInbox + over})
		wantCode(t, "fill the inbox", err, "")
		held := func(what string, want int) {
			t.Helper()
			wantCode(t, what, w.trimInboxes(w.ctx), "")
			list, err := w.Inbox(w.ctx, who, storage.Span{UpTo: maxUnusedInbox + over}, 2*maxUnusedInbox)
			if err != nil || len(list) != want || list[len(list)-1].Position != maxUnusedInbox+over {
				t.Errorf("%s: %d messages are held, %v, want the last %d", what, len(list), err, want)
			}
		}
		w.clock.Advance(unusedAfter)
		held("thirty days later", maxUnusedInbox+over)
		w.clock.Advance(time.Second)
		held("soon after, when it is not yet time to look again", maxUnusedInbox+over)
		used()
		w.clock.Advance(trimEvery)
		held("it is used again", maxUnusedInbox+over)
		w.clock.Advance(unusedAfter)
		held("it is not used any more", maxUnusedInbox)
		if got := w.DroppedMessages(); got != over {
			t.Errorf("%d messages are counted as dropped, want %d", got, over)
		}
	})
}
