package event

import (
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// seen is a set of top-level fields.
type seen uint16

const (
	seenAuthEvents seen = 1 << iota
	seenContent
	seenDepth
	seenEventID
	seenHashes
	seenPrevEvents
	seenRoomID
	seenSender
	seenSignatures
	seenTS
	seenType
)

// decoded is an event together with what only Parse looks at.
type decoded struct {
	Event
	seen       seen
	eventID    string // the field event_id
	hashes     []byte
	signatures []byte
}

// decode reads the top-level fields of the canonical event obj in one pass,
// and checks their types but nothing else. The ID, and the room ID of a
// version 12 create event, are the caller's to fill in.
func decode(v *Version, obj []byte, d *decoded) error {
	d.Version, d.JSON = v, obj
	var redacts []byte
	for key, raw := range canonical.Fields(obj) {
		ok := true
		switch key {
		case "redacts":
			redacts = raw
		case "prev_events":
			d.PrevEvents, ok = references(v, raw)
			d.seen |= seenPrevEvents
		case "auth_events":
			d.AuthEvents, ok = references(v, raw)
			d.seen |= seenAuthEvents
		case "content", "hashes", "signatures":
			ok = d.setObject(key, raw)
		case "depth":
			d.Depth, ok = canonical.Int(raw)
			d.seen |= seenDepth
		case "origin_server_ts":
			d.OriginServerTS, ok = canonical.Int(raw)
			d.seen |= seenTS
		case "type", "sender", "room_id", "state_key", "event_id":
			ok = d.setString(key, raw)
		}
		if !ok {
			return matrix.Errorf(matrix.BadJSON, "%s of the event is not %s", key, v.wantedType(key))
		}
	}
	d.finish(redacts)
	return nil
}

// finish fills in what depends on several fields.
func (d *decoded) finish(redacts []byte) {
	switch d.Type {
	case TypeMember:
		d.membership = membershipOf(d.Content)
	case TypeRedaction:
		if d.Version.RedactsField == RedactsInContent {
			redacts = canonical.Get(d.Content, "redacts")
		}
		// Whatever is not a string redacts nothing; it is no reason to drop
		// an event that other servers have.
		s, _ := canonical.String(redacts)
		d.Redacts = matrix.EventID(s)
	}
}

func (d *decoded) setObject(key string, raw []byte) bool {
	switch key {
	case "content":
		d.Content = raw
		d.seen |= seenContent
	case "hashes":
		d.hashes = raw
		d.seen |= seenHashes
	default:
		d.signatures = raw
		d.seen |= seenSignatures
	}
	return isObject(raw)
}

func (d *decoded) setString(key string, raw []byte) bool {
	if key == "type" {
		if known := knownType(raw); known != "" {
			d.Type = known
			d.seen |= seenType
			return true
		}
	}
	s, ok := canonical.String(raw)
	switch key {
	case "type":
		d.Type = s
		d.seen |= seenType
	case "sender":
		d.Sender = matrix.UserID(s)
		d.seen |= seenSender
	case "room_id":
		d.RoomID = matrix.RoomID(s)
		d.seen |= seenRoomID
	case "state_key":
		d.StateKey = &s
	case "event_id":
		d.eventID = s
		d.seen |= seenEventID
	}
	return ok
}

// wantedType says what decode expects in a field, for error texts.
func (v *Version) wantedType(key string) string {
	switch key {
	case "prev_events", "auth_events":
		if v.References == HashedReferences {
			return `a list of pairs of an event ID and {"sha256": hash}`
		}
		return "a list of event IDs"
	case "content", "hashes", "signatures":
		return "an object"
	case "depth", "origin_server_ts":
		return "an integer of at most 64 bits"
	default:
		return "a string"
	}
}

// knownType returns the constant for the JSON string raw, if it is a common
// event type: that spares an allocation for nearly every event.
func knownType(raw []byte) string {
	switch string(raw) {
	case `"` + TypeMessage + `"`:
		return TypeMessage
	case `"` + TypeEncrypted + `"`:
		return TypeEncrypted
	case `"` + TypeMember + `"`:
		return TypeMember
	case `"` + TypeRedaction + `"`:
		return TypeRedaction
	case `"` + TypePowerLevels + `"`:
		return TypePowerLevels
	default:
		return ""
	}
}

// references decodes prev_events or auth_events.
func references(v *Version, raw []byte) ([]matrix.EventID, bool) {
	if len(raw) < 2 || raw[0] != '[' {
		return nil, false
	}
	var ids []matrix.EventID
	for item := range canonical.Elements(raw) {
		if v.References == HashedReferences {
			var ok bool
			if item, ok = hashedReference(item); !ok {
				return nil, false
			}
		}
		id, ok := canonical.String(item)
		if !ok {
			return nil, false
		}
		if ids == nil {
			ids = make([]matrix.EventID, 0, 4)
		}
		ids = append(ids, matrix.EventID(id))
	}
	return ids, true
}

// hashedReference returns the first element of a pair of event ID and hashes.
func hashedReference(pair []byte) (id []byte, ok bool) {
	if len(pair) == 0 || pair[0] != '[' {
		return nil, false
	}
	n := 0
	for item := range canonical.Elements(pair) {
		switch n {
		case 0:
			id = item
		case 1:
			ok = isObject(item)
		default:
			return nil, false
		}
		n++
	}
	return id, ok
}
