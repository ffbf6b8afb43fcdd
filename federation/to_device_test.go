package federation_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

// device opens a session of alice.
func (w *world) device(id matrix.DeviceID) {
	w.t.Helper()
	session := users.Session{Device: id}
	copy(session.Token[:], id)
	user, _, err := users.ByID(w.t.Context(), w.db, alice)
	must(w.t, err)
	_, err = w.db.Commit(w.t.Context(), users.Login{User: alice, PasswordHash: user.PasswordHash, Session: session})
	must(w.t, err)
}

// mail returns who sent the messages that wait for a device of alice, and their contents.
func (w *world) mail(device matrix.DeviceID) []string {
	w.t.Helper()
	who := by(alice)
	who.Device = device
	list, err := w.accounts.Inbox(w.t.Context(), who, storage.Span{UpTo: w.db.Position()}, 1000)
	must(w.t, err)
	var contents []string
	for _, m := range list {
		contents = append(contents, string(m.Sender)+" "+string(m.Content))
	}
	return contents
}

// letterOf is an EDU with messages of bob to devices of alice.
func letterOf(id, byDevice string) string {
	return fmt.Sprintf(`{"edu_type":"m.direct_to_device","content":{"sender":%q,"type":"m.x","message_id":%q,"messages":{%q:%s,"@nobody:us.example":{"D":{}}}}}`,
		bob, id, alice, byDevice)
}

func fromBob(numbers ...int) (all []string) {
	for _, n := range numbers {
		all = append(all, fmt.Sprintf(`%s {"n":%d}`, bob, n))
	}
	return all
}

func TestToDevice(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorldOn(t, db)
		w.device("A")
		w.device("B")
		them := w.them()
		them.send(nil, letterOf("1", `{"A":{"n":1},"Z":{}}`), letterOf("2", `{"*":{"n":2}}`), letterOf("1", `{"A":{"n":3}}`))
		them.send(nil, letterOf("2", `{"*":{"n":2}}`), letterOf("3", `{"B":{"n":4}}`))
		them.send(nil, `{"edu_type":"m.direct_to_device","content":{}}`, `{"edu_type":"m.direct_to_device","content":{"sender":7}}`,
			letterOf("4", `[]`), letterOf("5", `{"A":7,"B":{"n":5}}`))
		want := map[matrix.DeviceID][]string{"A": fromBob(1, 2), "B": fromBob(2, 4, 5)}
		for device, contents := range want {
			if got := w.mail(device); !reflect.DeepEqual(got, contents) {
				t.Errorf("%s: got %q, want %q", device, got, contents)
			}
		}
	})
}

// A transaction that could not be answered comes again, perhaps after a restart, and what was stored of it is known.
func TestToDeviceOfARepeatedTransaction(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	w := newWorldOn(t, db)
	w.device("A")
	them := w.them()
	them.send(nil, letterOf("1", `{"A":{"n":1}}`))
	w.build() // as after a restart
	them.txns--
	them.send(nil, letterOf("1", `{"A":{"n":1}}`))
	them.send(nil, letterOf("1", `{"A":{"n":1}}`), letterOf("2", `{"A":{"n":2}}`))
	if got, want := w.mail("A"), fromBob(1, 2); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Messages come with the events of their transaction, before that is answered, though the events wait for their room.
func TestToDeviceWithEvents(t *testing.T) {
	w := newWorld(t)
	w.device("A")
	them := w.them()
	room := w.room("shared")
	them.join(room) // done at once; the rooms take nothing else, since nothing runs
	them.send([]*event.Event{them.message(room, "hello")}, letterOf("1", `{"A":{"n":1}}`))
	if got, want := w.mail("A"), fromBob(1); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
