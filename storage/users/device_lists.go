package users

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// A DeviceChange says that a device was added, renamed or removed. It is the last of its kind for the device.
type DeviceChange struct {
	User        matrix.UserID
	Device      matrix.DeviceID
	Position    storage.Position
	StreamID    int64   // unique for the user, greater for a later change
	DisplayName *string // as it is now; nil: the device is gone
}

// devicesOfPosition is how many changes of one position have stream IDs of their own.
const devicesOfPosition = 1 << 10

// streamID numbers the changes of a user's devices: a position may have several, all devices being removed at once.
func streamID(p storage.Position, ordinal int) int64 {
	return int64(p)*devicesOfPosition + int64(min(ordinal, devicesOfPosition-1))
}

// DeviceChanges returns the changes of the first few positions of a span that have any, oldest first: all of a position or
// none, and all of one user.
func DeviceChanges(ctx context.Context, q storage.Querier, span storage.Span, positions int) ([]DeviceChange, error) {
	upTo, _, err := storage.One[*storage.Position](ctx, q, `
		SELECT MAX(position) FROM (
			SELECT DISTINCT position FROM device_changes
			WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3) AS next`, span.After, span.UpTo, int64(positions))
	if err != nil || upTo == nil {
		return nil, err
	}
	return scanDeviceChanges(ctx, q, `c.position > $1 AND c.position <= $2`, span.After, *upTo)
}

// DeviceChangesOf returns the last change of each device that a user has or had, oldest first.
func DeviceChangesOf(ctx context.Context, q storage.Querier, user matrix.UserID) ([]DeviceChange, error) {
	return scanDeviceChanges(ctx, q, `c.user_id = $1`, user)
}

func scanDeviceChanges(ctx context.Context, q storage.Querier, where string, args ...any) ([]DeviceChange, error) {
	var list []DeviceChange
	ordinal := 0
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var c DeviceChange
		if err := rows.Scan(&c.User, &c.Device, &c.Position, &c.DisplayName); err != nil {
			return err
		}
		if ordinal++; len(list) == 0 || list[len(list)-1].Position != c.Position {
			ordinal = 0
		}
		c.StreamID = streamID(c.Position, ordinal)
		list = append(list, c)
		return nil
	}, `
		SELECT c.user_id, c.device_id, c.position, d.display_name
		FROM device_changes c LEFT JOIN devices d ON d.user_id = c.user_id AND d.device_id = c.device_id
		WHERE `+where+`
		ORDER BY c.position, c.user_id, c.device_id`, args...)
	return list, err
}

// DeviceStream returns the stream ID of the last change of a user's devices before a position; 0 if there was none. Of a
// device that changed again since then, it does not know.
func DeviceStream(ctx context.Context, q storage.Querier, user matrix.UserID, before storage.Position) (id int64, err error) {
	err = storage.Each(ctx, q, func(rows storage.Rows) error {
		var p storage.Position
		var count int64
		err := rows.Scan(&p, &count)
		id = streamID(p, int(count)-1)
		return err
	}, `
		SELECT position, COUNT(*) FROM device_changes
		WHERE user_id = $1 AND position < $2
		GROUP BY position ORDER BY position DESC LIMIT 1`, user, before)
	return id, err
}
