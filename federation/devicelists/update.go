package devicelists

import (
	"strconv"

	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/users"
)

const updateType = "m.device_list_update"

// about is what is told of a device.
type about struct {
	users.DeviceChange
	prev int64 // the stream ID of what was told of the user before; 0: nothing was
}

// content is the content of the EDU.
// https://spec.matrix.org/v1.19/server-server-api/#mdevice_list_update
func (a about) content() []byte {
	b := []byte{'{'}
	switch {
	case a.DisplayName == nil:
		b = append(b, `"deleted":true,`...)
	case *a.DisplayName != "":
		b = append(canonical.AppendString(append(b, `"device_display_name":`...), *a.DisplayName), ',')
	}
	b = canonical.AppendString(append(b, `"device_id":`...), string(a.Device))
	b = append(b, `,"prev_id":[`...)
	if a.prev != 0 {
		b = strconv.AppendInt(b, a.prev, 10)
	}
	b = strconv.AppendInt(append(b, `],"stream_id":`...), a.StreamID, 10)
	b = canonical.AppendString(append(b, `,"user_id":`...), string(a.User))
	return append(b, '}')
}
