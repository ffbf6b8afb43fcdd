package federation_test

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/federation/audience"
	"github.com/myelin-chat/myelin/federation/devicelists"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

// tell tells other servers of devices, as far as that is to be done, after a restart.
func (w *world) tell() {
	w.t.Helper()
	teller := devicelists.New(devicelists.Settings{
		DB: w.db, ServerName: us, Rooms: audience.NewRooms(w.db, w.rooms), Now: w.clock, Log: slog.New(slog.DiscardHandler),
		Permits: func(matrix.ServerName) error { return nil },
	})
	must(w.t, teller.Follow(w.t.Context()))
	_, err := w.db.Commit(w.t.Context(), servers.DeviceListsTold{UpTo: w.db.Position()})
	must(w.t, err)
}

// devicesTold returns which devices a server is owed to hear of, with the stream IDs before that of each.
func (w *world) devicesTold(s matrix.ServerName) map[string][]int64 {
	w.t.Helper()
	list, err := servers.EDUsAfter(w.t.Context(), w.db, s, 0, 100)
	must(w.t, err)
	told := map[string][]int64{}
	for _, e := range list {
		var in struct {
			User   matrix.UserID `json:"user_id"`
			Device string        `json:"device_id"`
			Prev   []int64       `json:"prev_id"`
		}
		must(w.t, json.Unmarshal(e.Content, &in))
		told[string(in.User)+" "+in.Device] = in.Prev
	}
	_, err = w.db.Commit(w.t.Context(), servers.DropEDUs{BeforeMS: w.clock().Add(time.Hour).UnixMilli()})
	must(w.t, err)
	return told
}

// A user who comes into a room is told of to the servers there, if they do not know the user from elsewhere.
func TestDeviceListsOfAJoin(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorldOn(t, db)
		_, err := w.accounts.Register(t.Context(), accounts.Registration{
			Username: "carol", Password: "correct horse battery", InhibitLogin: true, Auth: json.RawMessage(`{"type":"m.login.dummy"}`),
		})
		must(t, err)
		carol := matrix.UserID("@carol:us.example")
		w.device("A")
		w.device("GONE")
		w.device("B")
		_, err = db.Commit(t.Context(), users.RemoveDevices{User: alice, Devices: []matrix.DeviceID{"GONE"}})
		must(t, err)
		them := w.them()
		first, second := w.room("shared"), w.room("shared")
		must(t, w.rooms.Leave(t.Context(), by(alice), first.ID, ""))
		w.tell()
		if got := w.devicesTold(them.name); len(got) != 0 {
			t.Errorf("before they share a room: got %v, want nothing", got)
		}

		for _, room := range []matrix.RoomID{first.ID, second.ID} {
			must(t, w.rooms.Join(t.Context(), by(carol), room, ""))
		}
		them.join(second)
		must(t, w.rooms.Join(t.Context(), by(alice), second.ID, "")) // she is there already
		w.tell()
		if got := w.devicesTold(them.name); len(got) != 0 {
			t.Errorf("they came to her: got %v, want nothing", got)
		}

		must(t, w.rooms.Leave(t.Context(), by(alice), second.ID, ""))
		w.tell()
		must(t, w.rooms.Join(t.Context(), by(alice), second.ID, ""))
		w.tell()
		got := w.devicesTold(them.name)
		if len(got) != 2 || len(got["@alice:us.example A"]) != 0 || len(got["@alice:us.example B"]) != 1 {
			t.Errorf("she came to them: got %v, want A, then B", got)
		}
		_, err = w.rooms.SendState(t.Context(), by(alice), roomserver.SendState{
			Room: second.ID, Type: "m.room.member", StateKey: string(alice), Content: []byte(`{"membership":"join","displayname":"A"}`),
		})
		must(t, err)
		must(t, w.rooms.Join(t.Context(), by(alice), first.ID, ""))
		w.tell()
		if got := w.devicesTold(them.name); len(got) != 0 {
			t.Errorf("another name, and a room without them: got %v, want nothing", got)
		}
	})
}
