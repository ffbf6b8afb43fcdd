package intake

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Limits of a transaction.
// https://spec.matrix.org/v1.19/server-server-api/#transactions
const (
	maxEDUs       = 100
	maxTxnIDBytes = 255
	intakeTimeout = time.Minute // most of it is for keys of servers that are slow
)

// transaction is the body of a request to send, as far as it is looked at. Its origin is who has signed the request.
type transaction struct {
	Origin matrix.ServerName `json:"origin"`
	PDUs   []json.RawMessage `json:"pdus"`
	EDUs   []json.RawMessage `json:"edus"`
}

// edu is an ephemeral data unit.
// https://spec.matrix.org/v1.19/server-server-api/#edus
type edu struct {
	Type    string          `json:"edu_type"`
	Content json.RawMessage `json:"content"`
}

// response is the answer to a transaction: what became of its events.
type response struct {
	PDUs map[matrix.EventID]result `json:"pdus"`
}

type result struct {
	Error string `json:"error,omitempty"` // empty: it was taken
}

// send takes a transaction in: what of it is no event, is not signed, or is not for this server is refused; the rest is
// stored, and answered for. The rooms take their events later.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid
func (a *API) send(ctx context.Context, c *peer.Call, in *httpapi.RawBody) (*httpapi.Raw, error) {
	id := c.Path("txnID")
	if len(id) > maxTxnIDBytes {
		return nil, invalid("the transaction ID is longer than %d bytes", maxTxnIDBytes)
	}
	// Who repeats a transaction while it is being taken in waits for that; and whoever it was that asked first may go.
	answer, err, _ := a.sending.Do(string(c.Origin)+"\x00"+id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), intakeTimeout)
		defer cancel()
		return a.Take(ctx, c.Origin, id, *in)
	})
	if err != nil {
		return nil, err
	}
	return peer.Raw(answer.([]byte), nil)
}

// Take takes a transaction in: body is that of the request. It returns what is to be answered. The error is M_BAD_JSON,
// M_FORBIDDEN or M_LIMIT_EXCEEDED, or one of ours.
func (a *API) Take(ctx context.Context, origin matrix.ServerName, id string, body []byte) ([]byte, error) {
	answer, found, err := a.inbox.Answer(ctx, origin, id)
	if err != nil || found {
		return answer, err
	}
	in, err := readTransaction(origin, body)
	if err != nil {
		return nil, err
	}
	t := intake{api: a, origin: origin, rooms: map[matrix.RoomID]*roomIntake{}, results: map[matrix.EventID]result{}}
	if err := t.takePDUs(ctx, in.PDUs); err != nil {
		return nil, err
	}
	passing, err := t.takeEDUs(ctx, in.EDUs)
	if err != nil {
		return nil, err
	}
	// Before the transaction is staged: one that is known to be here is not read again.
	if err := t.deliver(ctx); err != nil {
		return nil, err
	}
	if answer, err = json.Marshal(response{PDUs: t.results}); err != nil {
		return nil, err
	}
	answer, err = a.inbox.Stage(ctx, inbox.Transaction{Origin: origin, ID: id, Answer: answer, Items: t.items()})
	if err != nil {
		return nil, err
	}
	t.count(in)
	a.apply(passing)
	return answer, nil
}

func readTransaction(origin matrix.ServerName, body []byte) (in transaction, err error) {
	if err := httpapi.Decode(body, &in); err != nil {
		return in, err
	}
	switch {
	case in.Origin != "" && in.Origin != origin:
		return in, matrix.Errorf(matrix.Forbidden, "the transaction is of %q, the request of %s", in.Origin, origin)
	case len(in.PDUs) > inbox.MaxPDUs:
		return in, matrix.Errorf(matrix.BadJSON, "the transaction has %d PDUs, at most %d are allowed", len(in.PDUs), inbox.MaxPDUs)
	case len(in.EDUs) > maxEDUs:
		return in, matrix.Errorf(matrix.BadJSON, "the transaction has %d EDUs, at most %d are allowed", len(in.EDUs), maxEDUs)
	}
	return in, nil
}

// intake is a transaction being taken in.
type intake struct {
	api     *API
	origin  matrix.ServerName
	rooms   map[matrix.RoomID]*roomIntake
	order   []*roomIntake
	letters []accounts.RemoteToDevice
	looked  looked
	results map[matrix.EventID]result
}

// roomIntake is what a transaction has for one room.
type roomIntake struct {
	id       matrix.RoomID
	version  *event.Version
	refused  error // why nothing is taken for it
	outside  bool  // since this server is not in it
	events   []*event.Event
	receipts []inbox.Receipt
}

// room returns what the transaction has for a room.
func (t *intake) room(ctx context.Context, id matrix.RoomID) (*roomIntake, error) {
	if r := t.rooms[id]; r != nil {
		return r, nil
	}
	r := &roomIntake{id: id}
	err := r.open(ctx, t.api)
	if err == nil && !r.outside {
		err = t.api.access.Check(ctx, t.origin, id)
	}
	switch matrix.CodeOf(err) {
	case "":
	case matrix.NotFound, matrix.Forbidden:
		r.refused = err
	default:
		return nil, err
	}
	if r.outside {
		r.refused = matrix.Errorf(matrix.NotFound, "this server is not in %s", id)
	}
	t.rooms[id] = r
	t.order = append(t.order, r)
	return r, nil
}

// open finds out what this server has to do with the room.
func (r *roomIntake) open(ctx context.Context, a *API) error {
	room, err := a.rooms.Room(ctx, r.id)
	if err != nil {
		return err
	}
	r.version = room.Version
	here, err := a.access.IsResident(ctx, room)
	r.outside = !here
	return err
}

// mayTake says whether an event is worth a look. Of a room that this server is not in, that is only one that takes back
// an invite to it.
func (r *roomIntake) mayTake(e *event.Event, us matrix.ServerName) bool {
	m := e.Membership()
	return r.refused == nil || r.outside && e.Target().Server() == us && (m == event.Leave || m == event.Ban)
}

// refuse notes why an event was not taken, under the ID that it has, if it can be found.
func (t *intake) refuse(id matrix.EventID, why error) {
	if _, noted := t.results[id]; id != "" && !noted {
		t.results[id] = result{Error: why.Error()}
	}
}

// takePDUs reads the events and checks their signatures.
func (t *intake) takePDUs(ctx context.Context, pdus []json.RawMessage) error {
	var read []*event.Event
	for _, raw := range pdus {
		e, err := t.read(ctx, raw)
		if err != nil {
			return err
		}
		if e == nil {
			continue
		}
		if _, twice := t.results[e.ID]; !twice {
			t.results[e.ID] = result{}
			read = append(read, e)
		}
	}
	for i, err := range t.api.ring.VerifyEvents(ctx, read) {
		e := read[i]
		if err != nil {
			t.results[e.ID] = result{Error: plainly(err)}
		} else if err := t.admit(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// admit takes an event that has passed all checks.
func (t *intake) admit(ctx context.Context, e *event.Event) error {
	r := t.rooms[e.RoomID]
	if !r.outside {
		r.events = append(r.events, e)
		return nil
	}
	switch result := t.api.rooms.Receive(ctx, t.origin, r.id, []*event.Event{e})[0]; result.Outcome {
	case roomserver.Accepted, roomserver.Known:
		return nil
	case roomserver.Failed, roomserver.Busy:
		return result.Err
	}
	t.results[e.ID] = result{Error: r.refused.Error()}
	return nil
}

// plainly tells what is wrong with a signature. What our own trouble was to find that out is not told.
func plainly(err error) string {
	if errors.Is(err, keys.ErrUnavailable) {
		return keys.ErrUnavailable.Error()
	}
	return err.Error()
}

// read reads one event; nil if it is refused.
func (t *intake) read(ctx context.Context, raw []byte) (*event.Event, error) {
	r, err := t.roomOf(ctx, raw)
	if r == nil || err != nil {
		return nil, err
	}
	e, err := event.Parse(r.version, raw)
	switch {
	case err != nil:
		t.refuse(event.ClaimedID(r.version, raw), err)
	case !r.mayTake(e, t.api.name):
		t.refuse(e.ID, r.refused)
	case e.RoomID != r.id:
		t.refuse(e.ID, invalid("the event is not of %s", r.id))
	case t.api.inbox.IsQuarantined(r.id, e.ID):
		t.refuse(e.ID, matrix.Errorf(matrix.Forbidden, "this server cannot process the event"))
	default:
		return e, nil
	}
	return nil, nil
}

// roomOf finds the room that an event says it is of; nil if the event is refused.
func (t *intake) roomOf(ctx context.Context, raw []byte) (*roomIntake, error) {
	// Most events are written canonically, and of the room of the one before. If the guess is wrong, it shows once the
	// event is read.
	if r := t.rooms[event.ClaimedRoom(raw)]; r != nil && r.version != nil {
		return r, nil
	}
	var claims struct {
		RoomID  matrix.RoomID  `json:"room_id"`
		EventID matrix.EventID `json:"event_id"`
	}
	if json.Unmarshal(raw, &claims) != nil {
		return nil, nil // not even an object
	}
	if _, err := matrix.ParseEventID(string(claims.EventID)); err != nil {
		claims.EventID = ""
	}
	if _, err := matrix.ParseRoomID(string(claims.RoomID)); err != nil {
		t.refuse(claims.EventID, err)
		return nil, nil
	}
	r, err := t.room(ctx, claims.RoomID)
	if err != nil {
		return nil, err
	}
	if r.version == nil {
		t.refuse(claims.EventID, r.refused)
		return nil, nil
	}
	return r, nil
}

// items is what is left to be done, by room.
func (t *intake) items() []inbox.Item {
	list := make([]inbox.Item, len(t.order))
	for i, r := range t.order {
		list[i] = inbox.Item{Room: r.id, Version: r.version, Events: r.events, Receipts: r.receipts}
	}
	return list
}

func invalid(format string, args ...any) error {
	return matrix.Errorf(matrix.InvalidParam, format, args...)
}
