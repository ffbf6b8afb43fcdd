package servers

import (
	"context"

	"github.com/myelin-chat/myelin/storage"
)

// DeviceListsTold says that other servers were told, or are owed to be told, of all changes of device lists up to a
// position. To be committed together with what they are owed.
type DeviceListsTold struct{ UpTo storage.Position }

var deviceListsToldTable = storage.NewTable("device_lists_told", storage.Replace, "id BIGINT KEY, position BIGINT")

// Rows implements storage.Write.
func (w DeviceListsTold) Rows(it *storage.Item) { it.Insert(deviceListsToldTable, int64(1), w.UpTo) }

// ToldOfDeviceLists returns up to where other servers were told of changes of device lists.
func ToldOfDeviceLists(ctx context.Context, q storage.Querier) (storage.Position, error) {
	p, _, err := storage.One[storage.Position](ctx, q, `SELECT position FROM device_lists_told WHERE id = 1`)
	return p, err
}
