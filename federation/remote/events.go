package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// Events are what another server gave of the events of a room, in its order, each once.
type Events struct {
	Events  []*event.Event
	Refused Refused
}

// Refused counts what was left out of an answer.
type Refused struct {
	Malformed  int // not an event of the room's version
	Foreign    int // of another room, or other than asked for
	Unsigned   int // without a valid signature of all who must have signed
	Unverified int // with signatures for which the keys cannot be had now
	Excess     int // more than asked for
}

// Total is how many were left out.
func (r Refused) Total() int { return r.Malformed + r.Foreign + r.Unsigned + r.Unverified + r.Excess }

var (
	// errEnough ends the reading of an answer of which the rest is not wanted.
	errEnough = errors.New("enough")
	errHeld   = matrix.Errorf(matrix.LimitExceeded, "too much is being read of other servers").WithStatus(503)
)

// door is where the events of one answer come in: first each by itself, when it is read, then all of them by their
// signatures. At the end no event is outside of it that has not passed both.
type door struct {
	client  *Client
	server  matrix.ServerName
	room    Room
	parse   func(*event.Version, []byte) (*event.Event, error)
	events  []*event.Event
	in      map[matrix.EventID]*admitted
	lists   []*list
	refused Refused
	waste   int
	held    int64
}

// admitted is an event that was read, and the set of the lists that have it.
type admitted struct {
	event *event.Event
	lists uint8
}

// list is one list of an answer.
type list struct {
	door   *door
	bit    uint8
	max    int
	enough bool // what is beyond max is an excess of no consequence, and not an error
	events []*event.Event
}

func (c *Client) newDoor(server matrix.ServerName, room Room) *door {
	return &door{client: c, server: server, room: room, parse: event.Parse, in: map[matrix.EventID]*admitted{}}
}

// list begins a list of at most max events.
func (d *door) list(max int) *list {
	l := &list{door: d, bit: 1 << len(d.lists), max: max}
	d.lists = append(d.lists, l)
	return l
}

// read takes the elements of the array that comes next.
func (l *list) read(s *stream) error { return s.array(maxElementBytes, l.add) }

// add takes the text of an event; nil stands for one that is too long.
func (l *list) add(raw []byte) error {
	if len(l.events) == l.max {
		l.door.refused.Excess++
		if l.enough {
			return errEnough
		}
		return bad("more than %d events", l.max)
	}
	a, err := l.door.admit(raw)
	if err != nil {
		return err
	}
	if a == nil || a.lists&l.bit != 0 {
		return l.door.wasted()
	}
	a.lists |= l.bit
	l.events = append(l.events, a.event)
	return nil
}

// wasted counts what came for nothing.
func (d *door) wasted() error {
	if d.waste++; d.waste > maxWaste {
		return bad("more than %d things that are no events of the room, or were there before", maxWaste)
	}
	return nil
}

// admit reads an event; nil if it is refused. Of several with the same ID the first counts.
func (d *door) admit(raw []byte) (*admitted, error) {
	if raw == nil {
		d.refused.Malformed++
		return nil, nil
	}
	e, err := d.parse(d.room.Version, raw)
	if err != nil {
		d.refused.Malformed++
		return nil, nil
	}
	if e.RoomID != d.room.ID {
		d.refused.Foreign++
		return nil, nil
	}
	if a := d.in[e.ID]; a != nil {
		return a, nil
	}
	size := int64(len(e.JSON) + eventOverheadBytes)
	d.held += size
	if d.client.held.Add(size) > maxHeldBytes {
		return nil, errHeld
	}
	a := &admitted{event: e}
	d.in[e.ID] = a
	d.events = append(d.events, e)
	return a, nil
}

// close checks the signatures of all events, and takes those that fail out of the lists.
func (d *door) close(ctx context.Context) error {
	errs := d.client.verifier.VerifyEvents(ctx, d.events)
	if err := ctx.Err(); err != nil {
		return err
	}
	fails := map[matrix.EventID]bool{}
	for i, err := range errs {
		switch {
		case err == nil:
			continue
		case isWrong(err):
			d.refused.Unsigned++
		default:
			d.refused.Unverified++
		}
		fails[d.events[i].ID] = true
	}
	for _, l := range d.lists {
		l.drop(fails)
	}
	d.report()
	return nil
}

func (l *list) drop(fails map[matrix.EventID]bool) {
	kept := l.events[:0]
	for _, e := range l.events {
		if !fails[e.ID] {
			kept = append(kept, e)
		}
	}
	clear(l.events[len(kept):])
	l.events = kept
}

func (d *door) report() {
	if d.refused.Total() == 0 {
		return
	}
	r := d.refused
	d.client.log.Debug("events of another server refused", "server", d.server, "room", d.room.ID, "malformed", r.Malformed,
		"foreign", r.Foreign, "unsigned", r.Unsigned, "unverified", r.Unverified, "excess", r.Excess)
}

// release gives back what the answer held of the bytes of all.
func (d *door) release() { d.client.held.Add(-d.held) }

// isWrong says whether a signature is known to be wrong, and not only unknown to be right.
func isWrong(err error) bool {
	var m *matrix.Error
	return errors.As(err, &m)
}

// readStream makes a request and reads the answer piece by piece.
func (c *Client) readStream(ctx context.Context, call outbound.Call, read func(*stream) error) error {
	answer, err := c.http.Call(ctx, call)
	if err != nil {
		return err
	}
	defer answer.Close()
	s := newStream(answer.Body)
	err = read(s)
	if err == nil {
		err = s.finish()
	}
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err() // that the answer broke off is not the other server's fault
	}
	return fmt.Errorf("%s: %w", call.To, err)
}

// eventList is a request whose answer is an object with a list of events.
type eventList struct {
	call   outbound.Call
	room   Room
	member string
	max    int
	old    bool // events from before there were limits of what they name are taken, too
}

// events makes a request for a list of events, and lets them in.
func (c *Client) events(ctx context.Context, in eventList) (Events, error) {
	d := c.newDoor(in.call.To, in.room)
	defer d.release()
	if in.old {
		d.parse = event.ParseHistory
	}
	l := d.list(in.max)
	l.enough = true
	err := c.readStream(ctx, in.call, func(s *stream) error {
		return s.object(map[string]func() error{in.member: func() error { return l.read(s) }})
	})
	if err != nil {
		return Events{}, err
	}
	if err := d.close(ctx); err != nil {
		return Events{}, err
	}
	return Events{Events: l.events, Refused: d.refused}, nil
}
