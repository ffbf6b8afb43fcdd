package devicelists

import (
	"strconv"

	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/users"
)

const updateType = "m.device_list_update"

// update is the content of the EDU that tells of a change, after the one with a stream ID; 0: after none.
// https://spec.matrix.org/v1.19/server-server-api/#mdevice_list_update
func update(c users.DeviceChange, prev int64) []byte {
	b := []byte{'{'}
	switch {
	case c.DisplayName == nil:
		b = append(b, `"deleted":true,`...)
	case *c.DisplayName != "":
		b = append(canonical.AppendString(append(b, `"device_display_name":`...), *c.DisplayName), ',')
	}
	b = canonical.AppendString(append(b, `"device_id":`...), string(c.Device))
	b = append(b, `,"prev_id":[`...)
	if prev != 0 {
		b = strconv.AppendInt(b, prev, 10)
	}
	b = strconv.AppendInt(append(b, `],"stream_id":`...), c.StreamID, 10)
	b = canonical.AppendString(append(b, `,"user_id":`...), string(c.User))
	return append(b, '}')
}
