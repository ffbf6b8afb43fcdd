package clientapi

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// deviceResponse leaves out what is not known, since a time of 0 would be shown as 1970.
type deviceResponse struct {
	ID          matrix.DeviceID `json:"device_id"`
	DisplayName string          `json:"display_name,omitempty"`
	LastSeenIP  string          `json:"last_seen_ip,omitempty"`
	LastSeenTS  int64           `json:"last_seen_ts,omitempty"`
}

func showDevice(d accounts.KnownDevice) deviceResponse {
	return deviceResponse{ID: d.ID, DisplayName: d.DisplayName, LastSeenIP: d.SeenIP, LastSeenTS: d.SeenMS}
}

type devicesResponse struct {
	Devices []deviceResponse `json:"devices"`
}

// devices lists the caller's devices.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devices
func (a *API) devices(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*devicesResponse, error) {
	list, err := a.accounts.Devices(ctx, c.Account)
	if err != nil {
		return nil, err
	}
	out := &devicesResponse{make([]deviceResponse, 0, len(list))}
	for _, d := range list {
		out.Devices = append(out.Devices, showDevice(d))
	}
	return out, nil
}

// device shows one of the caller's devices.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devicesdeviceid
func (a *API) device(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*deviceResponse, error) {
	found, err := a.accounts.Device(ctx, c.Account, matrix.DeviceID(c.Path("deviceID")))
	if err != nil {
		return nil, err
	}
	out := showDevice(found)
	return &out, nil
}

type updateDeviceRequest struct {
	DisplayName *string `json:"display_name"` // absent: unchanged
}

// updateDevice renames one of the caller's devices.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid
func (a *API) updateDevice(ctx context.Context, c *httpapi.Call, in *updateDeviceRequest) (*httpapi.None, error) {
	id := matrix.DeviceID(c.Path("deviceID"))
	if in.DisplayName == nil {
		_, err := a.accounts.Device(ctx, c.Account, id)
		return nil, err
	}
	return nil, a.accounts.RenameDevice(ctx, c.Account, id, *in.DisplayName)
}

// deleteDevice removes one of the caller's devices and ends its session.
// https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3devicesdeviceid
func (a *API) deleteDevice(ctx context.Context, c *httpapi.Call, in *authRequest) (*httpapi.None, error) {
	ids := []matrix.DeviceID{matrix.DeviceID(c.Path("deviceID"))}
	return nil, challenged(a.accounts.RemoveDevices(ctx, c.Requester, ids, in.Auth))
}

type deleteDevicesRequest struct {
	Auth    json.RawMessage   `json:"auth"`
	Devices []matrix.DeviceID `json:"devices"`
}

// deleteDevices removes several of the caller's devices.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3delete_devices
func (a *API) deleteDevices(ctx context.Context, c *httpapi.Call, in *deleteDevicesRequest) (*httpapi.None, error) {
	if in.Devices == nil {
		return nil, matrix.Errorf(matrix.MissingParam, "devices is missing")
	}
	return nil, challenged(a.accounts.RemoveDevices(ctx, c.Requester, in.Devices, in.Auth))
}
