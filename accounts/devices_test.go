package accounts

import (
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestDevices(t *testing.T) {
	each(t, func(w *world) {
		s, who := w.register("alice")
		wantCode(w.t, "rename", w.RenameDevice(w.ctx, who.Account, s.Device, "Phone \x00"), "")
		if d, err := w.Device(w.ctx, who.Account, s.Device); err != nil || d.DisplayName != "Phone \x00" {
			w.t.Errorf("device: got %+v, %v, want its new name", d, err)
		}
		wantCode(w.t, "long name", w.RenameDevice(w.ctx, who.Account, s.Device, strings.Repeat("ä", 101)), matrix.TooLarge)
		wantCode(w.t, "name at the limit", w.RenameDevice(w.ctx, who.Account, s.Device, strings.Repeat("ä", 100)), "")
		wantCode(w.t, "rename another", w.RenameDevice(w.ctx, who.Account, "OTHER", "x"), matrix.NotFound)
		_, err := w.Device(w.ctx, who.Account, "OTHER")
		wantCode(w.t, "another", err, matrix.NotFound)
		_, err = w.Device(w.ctx, "@bob:example.org", s.Device)
		wantCode(w.t, "of another user", err, matrix.NotFound)
	})
}

func TestRemoveDevices(t *testing.T) {
	each(t, func(w *world) {
		own, who := w.register("alice")
		second, err := w.login("alice", goodPassword)
		wantCode(w.t, "login", err, "")
		third, err := w.login("alice", goodPassword)
		wantCode(w.t, "login", err, "")
		w.who(second)

		ids := []matrix.DeviceID{second.Device, "UNKNOWN", second.Device}
		c := wantChallenge(w.t, "no auth", w.RemoveDevices(w.ctx, who, ids, nil), "")
		auth := passwordAuth(c.Session, "alice", goodPassword)
		wantCode(w.t, "other devices", w.RemoveDevices(w.ctx, who, []matrix.DeviceID{third.Device}, auth), matrix.Forbidden)
		reordered := []matrix.DeviceID{"UNKNOWN", second.Device}
		wantCode(w.t, "the same in another order", w.RemoveDevices(w.ctx, who, reordered, auth), "")
		w.wantLoggedOut("the removed one", second)
		w.who(third)
		w.who(own)
		list, err := w.Devices(w.ctx, who.Account)
		if err != nil || len(list) != 2 {
			w.t.Errorf("devices: got %+v, %v, want 2", list, err)
		}
		many := make([]matrix.DeviceID, maxDevicesAtOnce+1)
		wantCode(w.t, "too many", w.RemoveDevices(w.ctx, who, many, nil), matrix.InvalidParam)
	})
}

func TestDeviceChangesArePositionsForOthers(t *testing.T) {
	each(t, func(w *world) {
		changed := func() bool {
			last := w.db.Position()
			list, err := users.DeviceChanges(w.ctx, w.db, storage.Span{After: last - 1, UpTo: last}, 10)
			wantCode(w.t, "changes", err, "")
			return len(list) == 1 && list[0].User == "@alice:example.org"
		}
		s, who := w.register("alice")
		if !changed() {
			w.t.Error("a new device is no change")
		}
		wantCode(w.t, "rename", w.RenameDevice(w.ctx, who.Account, s.Device, "x"), "")
		if !changed() {
			w.t.Error("a new name is no change")
		}
		wantCode(w.t, "logout", w.Logout(w.ctx, who), "")
		if !changed() {
			w.t.Error("a removed device is no change")
		}
	})
}
