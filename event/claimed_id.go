package event

import (
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// ClaimedRoom returns the ID of the room that raw says it is of, as far as that shows without reading it: if raw is not
// written canonically, it may be empty, or another than Parse finds. It serves to find the version by which raw is to be
// read, and is not to be used for anything else.
func ClaimedRoom(raw []byte) matrix.RoomID {
	id, _ := canonical.String(canonical.Get(raw, "room_id"))
	return matrix.RoomID(id)
}

// ClaimedID returns the ID under which somebody who sends raw knows it as an event, though Parse refuses it: so that one
// can be told. It is empty where raw has none, and is not to be used for anything else.
func ClaimedID(v *Version, raw []byte) matrix.EventID {
	if len(raw) > maxRawBytes {
		return ""
	}
	obj, err := canonical.JSON(raw, canonical.Lenient)
	if err != nil || !isObject(obj) {
		return ""
	}
	d := new(decoded)
	if err := decode(v, canonical.AppendWithout(nil, obj, "unsigned"), d); err != nil {
		return ""
	}
	if v.EventIDs != ChosenEventIDs {
		return v.idOf(d.ReferenceHash())
	}
	id, err := matrix.ParseEventID(d.eventID)
	if err != nil {
		return ""
	}
	return id
}
