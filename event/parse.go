package event

import (
	"crypto/subtle"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// The limits of an event.
// https://spec.matrix.org/v1.19/client-server-api/#size-limits
const (
	// MaxBytes is the greatest size of an event in canonical form, with hashes
	// and signatures. What anybody may add in unsigned does not count.
	MaxBytes = 65536
	// MaxFieldBytes is the greatest length of an event type, a state key and
	// any identifier.
	MaxFieldBytes = 255
	// MaxPrevEvents and MaxAuthEvents are of the event schemas:
	// https://spec.matrix.org/v1.19/rooms/v11/#event-format
	// Events from before there were these limits come as history: ParseHistory.
	MaxPrevEvents = 20
	MaxAuthEvents = 10

	// maxRawBytes bounds what Parse looks at: escapes make a text up to six
	// times longer than its canonical form, and unsigned comes on top.
	maxRawBytes = 8 * MaxBytes
)

// Parse reads an event that came from outside, and is the only door for such:
// JSON, format, limits, grammar of identifiers, content hash, ID. An event with
// a wrong content hash comes back as its redacted form, as the specification
// asks. Signatures are the caller's to check: see RequiredSigners.
// https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu
func Parse(v *Version, raw []byte) (*Event, error) {
	d, err := read(v, raw)
	if err == nil {
		err = d.checkCounts()
	}
	if err != nil {
		return nil, err
	}
	return d.identify()
}

// ParseHistory is Parse for what another server answers to a backfill, which may have any number of prev events and
// auth events.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid
func ParseHistory(v *Version, raw []byte) (*Event, error) {
	d, err := read(v, raw)
	if err != nil {
		return nil, err
	}
	return d.identify()
}

// read decodes an event from outside, and checks its format.
func read(v *Version, raw []byte) (*decoded, error) {
	if len(raw) > maxRawBytes {
		return nil, matrix.Errorf(matrix.TooLarge, "the event is %d bytes long, which is more than any valid event", len(raw))
	}
	obj, err := canonical.JSON(raw, v.JSON)
	if err != nil {
		return nil, err
	}
	if !isObject(obj) {
		return nil, matrix.Errorf(matrix.BadJSON, "an event is a JSON object, this is not one")
	}
	if canonical.Get(obj, "unsigned") != nil {
		obj = canonical.AppendWithout(make([]byte, 0, len(obj)), obj, "unsigned")
	}
	if err := checkSize(obj); err != nil {
		return nil, err
	}
	d := new(decoded)
	if err := decode(v, obj, d); err != nil {
		return nil, err
	}
	return d, d.check()
}

// Load makes an event from what was stored earlier: obj must be the JSON of an
// event that Parse or Build returned, and id its ID. Nothing is checked again.
func Load(v *Version, id matrix.EventID, obj []byte) (*Event, error) {
	d := new(decoded)
	if err := decode(v, obj, d); err != nil {
		return nil, err
	}
	d.ID = id
	if d.ownsRoomID() && len(id) > 1 {
		d.RoomID = roomIDOf(id)
	}
	return &d.Event, nil
}

// ownsRoomID says whether the event is the one that its room is named after.
func (d *decoded) ownsRoomID() bool {
	return d.Type == TypeCreate && d.Version.RoomIDs == CreateHashRoomIDs
}

// identify checks the content hash and gives the event its ID.
func (d *decoded) identify() (*Event, error) {
	v := d.Version
	claimed, _ := canonical.String(canonical.Get(d.hashes, "sha256"))
	want := contentHash(d.JSON)
	if got, err := signing.DecodeBase64(claimed); err != nil || subtle.ConstantTimeCompare(got, want[:]) != 1 {
		redacted := new(decoded)
		if err := decode(v, d.RedactedJSON(), redacted); err != nil {
			return nil, err
		}
		redacted.Redacted, redacted.TooLong = true, d.TooLong
		d = redacted
	}
	if v.EventIDs == ChosenEventIDs {
		d.ID = matrix.EventID(d.eventID)
	} else {
		d.ID = v.idOf(d.ReferenceHash())
	}
	if d.ownsRoomID() {
		d.RoomID = roomIDOf(d.ID)
	}
	return &d.Event, nil
}

// required are the fields that every event must have, with their names.
var required = []struct {
	field seen
	name  string
}{
	{seenType, "type"},
	{seenSender, "sender"},
	{seenContent, "content"},
	{seenTS, "origin_server_ts"},
	{seenDepth, "depth"},
	{seenPrevEvents, "prev_events"},
	{seenAuthEvents, "auth_events"},
	{seenHashes, "hashes"},
	{seenSignatures, "signatures"},
}

// check holds a decoded event against the event format of its room version.
// https://spec.matrix.org/v1.19/rooms/v11/#event-format
func (d *decoded) check() error {
	for _, r := range required {
		if d.seen&r.field == 0 {
			return matrix.Errorf(matrix.BadJSON, "the event has no %s", r.name)
		}
	}
	if _, err := matrix.ParseUserID(string(d.Sender)); err != nil {
		return matrix.Errorf(matrix.BadJSON, "sender of the event: %v", err)
	}
	if err := d.checkTexts(); err != nil {
		if d.TooLong = d.Version.LooseTexts && d.isShortInCharacters(); !d.TooLong {
			return err
		}
	}
	if d.Depth < 0 || d.Depth > d.Version.MaxDepth {
		return matrix.Errorf(matrix.BadJSON, "depth of the event is %d, it may be 0 to %d", d.Depth, d.Version.MaxDepth)
	}
	if err := d.checkRoomID(); err != nil {
		return err
	}
	if err := d.checkEventIDs(); err != nil {
		return err
	}
	return d.checkProofs()
}

// checkRoomID checks that the event names its room as its version asks.
func (d *decoded) checkRoomID() error {
	if d.ownsRoomID() {
		if d.seen&seenRoomID != 0 {
			return matrix.Errorf(matrix.BadJSON, "a create event has no room_id in room version %s: the room is named after it", d.Version.ID)
		}
		return nil
	}
	if d.seen&seenRoomID == 0 {
		return matrix.Errorf(matrix.BadJSON, "the event has no room_id")
	}
	room, err := matrix.ParseRoomID(string(d.RoomID))
	if err != nil {
		return matrix.Errorf(matrix.BadJSON, "room_id of the event: %v", err)
	}
	if _, named := room.Server(); named == (d.Version.RoomIDs == CreateHashRoomIDs) {
		return matrix.Errorf(matrix.BadJSON, "room_id %q is not of the form of room version %s", room, d.Version.ID)
	}
	return nil
}

// checkEventIDs checks every event ID in the event.
func (d *decoded) checkEventIDs() error {
	if d.Version.EventIDs == ChosenEventIDs {
		if d.seen&seenEventID == 0 {
			return matrix.Errorf(matrix.BadJSON, "the event has no event_id, which room version %s needs", d.Version.ID)
		}
		id, err := matrix.ParseEventID(d.eventID)
		if _, named := id.Server(); err != nil || !named {
			return matrix.Errorf(matrix.BadJSON, "event_id %q is not of the form $opaque:server", d.eventID)
		}
	}
	for _, id := range d.PrevEvents {
		if _, err := matrix.ParseEventID(string(id)); err != nil {
			return matrix.Errorf(matrix.BadJSON, "prev_events of the event: %v", err)
		}
	}
	for _, id := range d.AuthEvents {
		if _, err := matrix.ParseEventID(string(id)); err != nil {
			return matrix.Errorf(matrix.BadJSON, "auth_events of the event: %v", err)
		}
	}
	return nil
}

// checkProofs checks the form of hashes and signatures.
func (d *decoded) checkProofs() error {
	if _, ok := canonical.String(canonical.Get(d.hashes, "sha256")); !ok {
		return matrix.Errorf(matrix.BadJSON, "hashes of the event has no sha256, or it is not a string")
	}
	for server, keys := range canonical.Fields(d.signatures) {
		if !isObject(keys) {
			return matrix.Errorf(matrix.BadJSON, "signatures of %q is not an object of key IDs", server)
		}
		for id, signature := range canonical.Fields(keys) {
			if signature[0] != '"' {
				return matrix.Errorf(matrix.BadJSON, "the signature of %q with %q is not a string", server, id)
			}
		}
	}
	return nil
}

// checkFields checks the limits that hold for what we build, too.
func (e *Event) checkFields() error {
	if err := e.checkTexts(); err != nil {
		return err
	}
	return e.checkCounts()
}

func (e *Event) checkTexts() error {
	switch {
	case len(e.Type) > MaxFieldBytes:
		return matrix.Errorf(matrix.TooLarge, "the event type is %d bytes long, at most %d are allowed", len(e.Type), MaxFieldBytes)
	case e.StateKey != nil && len(*e.StateKey) > MaxFieldBytes:
		return matrix.Errorf(matrix.TooLarge, "the state key is %d bytes long, at most %d are allowed", len(*e.StateKey), MaxFieldBytes)
	case len(e.Sender) > MaxFieldBytes:
		return matrix.Errorf(matrix.TooLarge, "the sender is %d bytes long, at most %d are allowed", len(e.Sender), MaxFieldBytes)
	case len(e.RoomID) > MaxFieldBytes:
		return matrix.Errorf(matrix.TooLarge, "the room ID is %d bytes long, at most %d are allowed", len(e.RoomID), MaxFieldBytes)
	}
	return nil
}

// isShortInCharacters says whether an event keeps the limits if they count characters.
func (e *Event) isShortInCharacters() bool {
	return utf8.RuneCountInString(e.Type) <= MaxFieldBytes && utf8.RuneCountInString(e.StateID().StateKey) <= MaxFieldBytes
}

func (e *Event) checkCounts() error {
	switch {
	case len(e.PrevEvents) > MaxPrevEvents:
		return matrix.Errorf(matrix.TooLarge, "the event has %d prev events, at most %d are allowed", len(e.PrevEvents), MaxPrevEvents)
	case len(e.AuthEvents) > MaxAuthEvents:
		return matrix.Errorf(matrix.TooLarge, "the event has %d auth events, at most %d are allowed", len(e.AuthEvents), MaxAuthEvents)
	}
	return nil
}

// checkSize checks the size of the whole event.
func checkSize(obj []byte) error {
	if len(obj) > MaxBytes {
		return matrix.Errorf(matrix.TooLarge,
			"the event is %d bytes long as canonical JSON, at most %d are allowed; shorten its content, or send it as a file",
			len(obj), MaxBytes)
	}
	return nil
}
