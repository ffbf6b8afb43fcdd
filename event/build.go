package event

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// Proto is an event to be: what Build makes an Event of. Build keeps nothing of
// it.
type Proto struct {
	Type           string
	StateKey       *string
	Sender         matrix.UserID
	RoomID         matrix.RoomID // empty for the create event of version 12
	Content        []byte        // a JSON object; Build makes it canonical
	PrevEvents     []matrix.EventID
	AuthEvents     []matrix.EventID
	Depth          int64 // what is beyond the version's MaxDepth is set to that
	OriginServerTS int64
	Redacts        matrix.EventID // Build puts it where the version keeps it

	// ReferenceHashes are those of the prev and auth events. Room versions 1
	// and 2 need them, others do not look.
	ReferenceHashes map[matrix.EventID][sha256.Size]byte
}

// Build makes an event of this server, origin: canonical, within the limits,
// hashed and signed with k, with its ID. Content is held to strict canonical
// JSON in every room version, since nothing obliges us to make the JSON that
// old ones put up with.
// https://spec.matrix.org/v1.19/server-server-api/#adding-hashes-and-signatures-to-outgoing-events
func Build(v *Version, p Proto, origin matrix.ServerName, k signing.Key) (*Event, error) {
	e := &Event{
		Version: v, RoomID: p.RoomID, Type: p.Type, Sender: p.Sender,
		PrevEvents: slices.Clone(p.PrevEvents), AuthEvents: slices.Clone(p.AuthEvents),
		Depth: min(p.Depth, v.MaxDepth), OriginServerTS: p.OriginServerTS,
	}
	if p.StateKey != nil {
		stateKey := *p.StateKey
		e.StateKey = &stateKey
	}
	if err := e.checkFields(); err != nil {
		return nil, err
	}
	ownsRoom := p.Type == TypeCreate && v.RoomIDs == CreateHashRoomIDs
	if ownsRoom != (p.RoomID == "") {
		return nil, matrix.Errorf(matrix.BadJSON, "room ID %q does not fit a %s event of room version %s", p.RoomID, p.Type, v.ID)
	}
	d := draft{event: e, redacts: p.Redacts, hashes: p.ReferenceHashes}
	if err := d.setContent(p.Content); err != nil {
		return nil, err
	}
	if err := d.write(origin, k); err != nil {
		return nil, err
	}
	if ownsRoom {
		e.RoomID = roomIDOf(e.ID)
	}
	return e, nil
}

// draft is an event being built. The members of its canonical JSON stand in
// three runs, between which hashes and signatures are put in as they come to
// be known: head, hashes, middle, signatures, tail.
type draft struct {
	event   *Event
	redacts matrix.EventID
	hashes  map[matrix.EventID][sha256.Size]byte

	head, middle, tail []byte
	contentAt          int // where content begins in head
}

// setContent makes the content canonical and puts the target of a redaction
// into it, in versions that keep it there.
func (d *draft) setContent(content []byte) error {
	e := d.event
	canon, err := canonical.JSON(content, canonical.Strict)
	if err != nil {
		return err
	}
	if !isObject(canon) {
		return matrix.Errorf(matrix.BadJSON, "the content of an event is a JSON object, this is not one")
	}
	if d.redacts != "" && e.Version.RedactsField == RedactsInContent {
		canon = canonical.AppendWith(nil, canon, "redacts", canonical.AppendString(nil, string(d.redacts)))
	}
	if e.Type == TypeMember {
		e.membership = membershipOf(canon)
	}
	if e.Type == TypeRedaction {
		e.Redacts = d.redacts
		if e.Version.RedactsField == RedactsInContent {
			s, _ := canonical.String(canonical.Get(canon, "redacts"))
			e.Redacts = matrix.EventID(s)
		}
	}
	e.Content = canon
	return nil
}

// write composes the JSON of the event, with its hash, ID and signature.
func (d *draft) write(origin matrix.ServerName, k signing.Key) error {
	e, v := d.event, d.event.Version
	if err := d.writeRuns(); err != nil {
		return err
	}
	if v.EventIDs == ChosenEventIDs {
		d.chooseID(origin)
	}
	hash := sha256.Sum256(d.join(nil, nil))
	hashes := append([]byte(`"hashes":{"sha256":"`), signing.EncodeBase64(hash[:])...)
	hashes = append(hashes, `"},`...)

	essence := v.Redaction.append(nil, e.Type, d.join(hashes, nil), false)
	if v.EventIDs != ChosenEventIDs {
		e.ID = v.idOf(sha256.Sum256(essence))
	}
	signatures := append([]byte(`,"signatures":{`), canonical.AppendString(nil, string(origin))...)
	signatures = append(signatures, `:{`...)
	signatures = canonical.AppendString(signatures, string(k.ID()))
	signatures = append(signatures, `:"`...)
	signatures = append(signatures, signing.EncodeBase64(k.Sign(essence))...)
	signatures = append(signatures, `"}}`...)

	e.JSON = d.join(hashes, signatures)
	e.Content = e.JSON[d.contentAt : d.contentAt+len(e.Content) : d.contentAt+len(e.Content)]
	return checkSize(e.JSON)
}

// writeRuns writes the three runs of members, in the order of their keys.
func (d *draft) writeRuns() error {
	e := d.event
	var err error
	b := append(make([]byte, 0, len(e.Content)+512), `{"auth_events":`...)
	if b, err = d.appendReferences(b, e.AuthEvents); err != nil {
		return err
	}
	b = append(b, `,"content":`...)
	d.contentAt = len(b)
	b = append(b, e.Content...)
	b = append(b, `,"depth":`...)
	b = strconv.AppendInt(b, e.Depth, 10)
	d.head = append(b, ',')

	b = append(make([]byte, 0, 512), `"origin_server_ts":`...)
	b = strconv.AppendInt(b, e.OriginServerTS, 10)
	b = append(b, `,"prev_events":`...)
	if b, err = d.appendReferences(b, e.PrevEvents); err != nil {
		return err
	}
	if d.redacts != "" && e.Version.RedactsField == RedactsAtTop {
		b = appendMember(b, "redacts", canonical.AppendString(nil, string(d.redacts)))
	}
	if e.RoomID != "" {
		b = append(b, `,"room_id":`...)
		b = canonical.AppendString(b, string(e.RoomID))
	}
	b = append(b, `,"sender":`...)
	d.middle = canonical.AppendString(b, string(e.Sender))

	b = make([]byte, 0, 128)
	if e.StateKey != nil {
		b = append(b, `,"state_key":`...)
		b = canonical.AppendString(b, *e.StateKey)
	}
	b = append(b, `,"type":`...)
	b = canonical.AppendString(b, e.Type)
	d.tail = append(b, '}')
	return nil
}

// join puts the runs together.
func (d *draft) join(hashes, signatures []byte) []byte {
	b := make([]byte, 0, len(d.head)+len(hashes)+len(d.middle)+len(signatures)+len(d.tail))
	b = append(b, d.head...)
	b = append(b, hashes...)
	b = append(b, d.middle...)
	b = append(b, signatures...)
	return append(b, d.tail...)
}

// chooseID gives an event of version 1 or 2 its ID. It is derived from the
// event, so that building the same event again gives the same ID.
func (d *draft) chooseID(origin matrix.ServerName) {
	hash := sha256.Sum256(d.join(nil, nil))
	d.event.ID = matrix.EventID("$" + base64.RawURLEncoding.EncodeToString(hash[:18]) + ":" + string(origin))
	d.head = append(d.head, `"event_id":`...)
	d.head = canonical.AppendString(d.head, string(d.event.ID))
	d.head = append(d.head, ',')
}

// appendReferences appends a list of events as the room version writes it.
func (d *draft) appendReferences(b []byte, ids []matrix.EventID) ([]byte, error) {
	b = append(b, '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		if d.event.Version.References == PlainReferences {
			b = canonical.AppendString(b, string(id))
			continue
		}
		hash, ok := d.hashes[id]
		if !ok {
			return nil, matrix.Errorf(matrix.Unknown, "room version %s names events with their reference hashes, and that of %s is not given", d.event.Version.ID, id)
		}
		b = append(b, '[')
		b = canonical.AppendString(b, string(id))
		b = append(b, `,{"sha256":"`...)
		b = append(b, signing.EncodeBase64(hash[:])...)
		b = append(b, `"}]`...)
	}
	return append(b, ']'), nil
}
