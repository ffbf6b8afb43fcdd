package accounts

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

// maxDevicesAtOnce bounds how many devices one request can remove.
const maxDevicesAtOnce = 1000

// KnownDevice is a device that has logged in, and when it was last seen.
type KnownDevice = users.Device

// Devices returns the devices of a user.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devices
func (a *Accounts) Devices(ctx context.Context, user matrix.UserID) ([]KnownDevice, error) {
	list, err := users.Devices(ctx, a.db, user)
	for i := range list {
		a.seen.overlay(user, &list[i])
	}
	return list, err
}

// Device returns one device of a user.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devicesdeviceid
func (a *Accounts) Device(ctx context.Context, user matrix.UserID, id matrix.DeviceID) (KnownDevice, error) {
	device, found, err := users.DeviceByID(ctx, a.db, user, id)
	if err != nil {
		return KnownDevice{}, err
	}
	if !found {
		return KnownDevice{}, matrix.Errorf(matrix.NotFound, "%s has no device %s", user, id)
	}
	a.seen.overlay(user, &device)
	return device, nil
}

// DeviceStream returns the stream ID of the last change of a user's devices; 0 if there was none.
// https://spec.matrix.org/v1.19/server-server-api/#device-management
func (a *Accounts) DeviceStream(ctx context.Context, user matrix.UserID) (int64, error) {
	return users.DeviceStream(ctx, a.db, user, math.MaxInt64)
}

// RenameDevice sets the display name of a device.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid
func (a *Accounts) RenameDevice(ctx context.Context, user matrix.UserID, id matrix.DeviceID, name string) error {
	if utf8.RuneCountInString(name) > maxDeviceNameLen {
		return matrix.Errorf(matrix.TooLarge, "the name of a device has at most %d characters", maxDeviceNameLen).WithStatus(400)
	}
	_, err := a.db.Commit(ctx, users.RenameDevice{User: user, Device: id, DisplayName: name})
	return err
}

// RemoveDevices logs devices of the requester out and removes them, once the password was given. Devices that are not
// there are no error.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3delete_devices
func (a *Accounts) RemoveDevices(ctx context.Context, who matrix.Requester, ids []matrix.DeviceID, auth json.RawMessage) error {
	if len(ids) > maxDevicesAtOnce {
		return matrix.Errorf(matrix.InvalidParam, "at most %d devices can be removed at once", maxDevicesAtOnce)
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	if err := a.confirm(ctx, who, operation{name: "remove devices", params: ids}, auth); err != nil {
		return err
	}
	return a.removeDevices(ctx, who.Account, ids)
}

// removeDevices ends the sessions of devices together with them: a token without a device would be nobody's to revoke.
func (a *Accounts) removeDevices(ctx context.Context, user matrix.UserID, ids []matrix.DeviceID) error {
	defer a.tokens.forget(user) // even if the outcome is unknown
	_, err := a.db.Commit(ctx, users.RemoveDevices{User: user, Devices: ids})
	return err
}
