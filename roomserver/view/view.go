// Package view says what a user may see of a room, and how an event looks to a
// client. Everything that hands events to anybody goes through it.
//
// A Viewer is one user's eye on one room. It is made for one request and forgotten.
package view

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Viewer is one user's eye on one room, at the moment it was made. It is not
// safe for concurrent use.
type Viewer struct {
	Room rooms.Room
	By   matrix.Requester
	Now  rooms.Membership // present; its Membership is empty if there never was one

	server *roomserver.Server
	stays  []stay
	memo   map[statetree.NodeID]standing
}

// stay is a time during which the viewer was joined: the positions from, up to
// but without, until. until is 0 while it lasts.
type stay struct{ from, until storage.Position }

// standing is what decides visibility at one state of the room.
type standing struct {
	visibility string
	membership event.Membership
}

// The history visibilities that the specification gives a meaning to.
const (
	worldReadable = "world_readable"
	shared        = "shared"
	invited       = "invited"
)

// Open returns the eye of by on room, whatever it may see: see Standing.
// The error is M_FORBIDDEN if the room is not known, so that nobody learns which
// rooms there are.
func Open(ctx context.Context, server *roomserver.Server, q storage.Querier, by matrix.Requester, id matrix.RoomID) (*Viewer, error) {
	room, err := server.Room(ctx, id)
	if matrix.CodeOf(err) == matrix.NotFound {
		return nil, notInRoom(by.User, id)
	}
	if err != nil {
		return nil, err
	}
	now, _, err := rooms.MembershipOf(ctx, q, room.Num, by.User)
	if err != nil {
		return nil, err
	}
	history, err := rooms.MembershipHistory(ctx, q, room, by.User)
	if err != nil {
		return nil, err
	}
	if n := len(history); n > 0 && history[n-1].Position > now.Position {
		now = history[n-1] // it moved between the two reads
	}
	return Of(server, room, by, Past{Now: now, History: history}), nil
}

// Past is what a Viewer knows of its own membership.
type Past struct {
	Now     rooms.Membership
	History []rooms.Membership // oldest first
}

// Of returns the eye of by on a room whose members are known already.
func Of(server *roomserver.Server, room rooms.Room, by matrix.Requester, past Past) *Viewer {
	return &Viewer{
		Room: room, By: by, Now: past.Now, server: server,
		stays: stays(past.History),
	}
}

// stays finds the times of being joined in a history of memberships.
func stays(history []rooms.Membership) []stay {
	var all []stay
	for _, m := range history {
		joined := m.Membership == event.Join
		open := len(all) > 0 && all[len(all)-1].until == 0
		switch {
		case joined && !open:
			all = append(all, stay{from: m.Position})
		case !joined && open:
			all[len(all)-1].until = m.Position
		}
	}
	return all
}

// Joined says whether the viewer is in the room now.
func (v *Viewer) Joined() bool { return v.Now.Membership == event.Join }

// Left returns the position at which the viewer's last stay ended. It is false
// for who is in the room, or never was.
func (v *Viewer) Left() (storage.Position, bool) {
	if len(v.stays) == 0 {
		return 0, false
	}
	last := v.stays[len(v.stays)-1]
	return last.until, last.until != 0
}

// JoinedAt says whether the viewer was in the room at a position of the log.
func (v *Viewer) JoinedAt(p storage.Position) bool {
	for _, s := range v.stays {
		if s.from <= p && (s.until == 0 || p < s.until) {
			return true
		}
	}
	return false
}

// StayedSince says whether the viewer was in the room at a position of the log and
// has not left it since, or not before its last stay ended.
func (v *Viewer) StayedSince(p storage.Position) bool {
	if len(v.stays) == 0 {
		return false
	}
	last := v.stays[len(v.stays)-1]
	return last.from <= p && (last.until == 0 || p < last.until)
}

// Sight is what of a room a viewer may see.
type Sight struct {
	Until storage.Position // 0: up to now; else the state and events up to here
}

// Standing returns what the viewer may see of the room's state and timeline:
// all if it is joined or the room is readable by the world, what was there when
// it left if it was joined. The error is M_FORBIDDEN for anybody else, and for
// who has forgotten the room.
func (v *Viewer) Standing(ctx context.Context) (Sight, error) {
	if v.Joined() {
		return Sight{}, nil
	}
	current, err := v.server.Current(ctx, v.Room.ID)
	if matrix.CodeOf(err) == matrix.NotFound {
		return Sight{}, notInRoom(v.By.User, v.Room.ID) // known by an invite or a knock only
	}
	if err != nil {
		return Sight{}, err
	}
	at, err := v.at(ctx, current)
	if err != nil {
		return Sight{}, err
	}
	if at.visibility == worldReadable {
		return Sight{}, nil
	}
	if left, ok := v.Left(); ok && !v.Now.Forgotten {
		return Sight{Until: left}, nil
	}
	return Sight{}, notInRoom(v.By.User, v.Room.ID)
}

func notInRoom(user matrix.UserID, room matrix.RoomID) error {
	return matrix.Errorf(matrix.Forbidden, "%s is not in %s, or the room is not known here", user, room)
}

// Seen is an event that the viewer may see.
type Seen struct {
	*rooms.Event
	Membership event.Membership // the viewer's at the event, the event's own effect included
}

// See returns those of events that the viewer may see, in their order.
// https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-5
func (v *Viewer) See(ctx context.Context, events []*rooms.Event) ([]Seen, error) {
	seen := make([]Seen, 0, len(events))
	for _, e := range events {
		s, visible, err := v.Look(ctx, e)
		if err != nil {
			return nil, err
		}
		if visible {
			seen = append(seen, s)
		}
	}
	return seen, nil
}

// Look returns an event as the viewer sees it. It is false if the viewer may not.
func (v *Viewer) Look(ctx context.Context, e *rooms.Event) (Seen, bool, error) {
	if e.Type == roomserver.TypeDummy && !e.IsState() {
		return Seen{}, false, nil
	}
	switch e.Kind {
	case rooms.Live:
		// Rule 2, for events of our own: they follow all that we knew, so the viewer was joined at them too. One
		// from elsewhere may have come from a branch on which the viewer is not in the room.
		if e.Sender.Server() == v.server.ServerName() && v.stayed(e.Order.Anchor) {
			return Seen{e, v.after(e, event.Join)}, true, nil
		}
	case rooms.Backfilled: // where it stands says when it was found, not who was there when it was sent
	default:
		return Seen{}, false, nil // in no timeline
	}
	if e.StateBefore == 0 && e.Type != event.TypeCreate {
		return Seen{}, false, nil // state unknown
	}
	before, err := v.standing(ctx, e.StateBefore)
	if err != nil {
		return Seen{}, false, err
	}
	after := standing{v.visibilityAfter(e, before.visibility), v.after(e, before.membership)}
	for _, at := range []standing{before, after} {
		if v.allows(e, at) {
			return Seen{e, after.membership}, true, nil
		}
	}
	return Seen{}, false, nil
}

// stayed says whether the viewer was joined before position p and still is after it.
func (v *Viewer) stayed(p storage.Position) bool {
	for _, s := range v.stays {
		if s.from < p && (s.until == 0 || p < s.until) {
			return true
		}
	}
	return false
}

// allows applies the rules of the specification to one state.
func (v *Viewer) allows(e *rooms.Event, at standing) bool {
	switch {
	case at.visibility == worldReadable, at.membership == event.Join:
		return true
	case at.visibility == shared:
		return v.joinedAfter(Gap(e.Order).Position())
	case at.visibility == invited:
		return at.membership == event.Invite
	}
	return false
}

// joinedAfter says whether the viewer was joined at any time after position p.
func (v *Viewer) joinedAfter(p storage.Position) bool {
	if len(v.stays) == 0 {
		return false
	}
	last := v.stays[len(v.stays)-1]
	return last.until == 0 || last.until > p
}

// after returns the viewer's membership after e, which was m before it.
func (v *Viewer) after(e *rooms.Event, m event.Membership) event.Membership {
	if e.Target() == v.By.User && e.Target() != "" {
		return e.Membership()
	}
	return m
}

// visibilityAfter returns the room's history visibility after e.
func (v *Viewer) visibilityAfter(e *rooms.Event, before string) string {
	if e.Type == event.TypeHistoryVisibility && e.IsState() && *e.StateKey == "" {
		return visibilityOf(e)
	}
	return before
}

// standing returns what decides visibility at a root.
func (v *Viewer) standing(ctx context.Context, root statetree.NodeID) (standing, error) {
	if at, ok := v.memo[root]; ok {
		return at, nil
	}
	at, err := v.at(ctx, v.server.StateAt(v.Room, root))
	if err != nil {
		return at, err
	}
	if v.memo == nil {
		v.memo = map[statetree.NodeID]standing{}
	}
	v.memo[root] = at
	return at, nil
}

func (v *Viewer) at(ctx context.Context, state roomserver.State) (standing, error) {
	found, err := state.Known(ctx, // of who is not known, as of who was not there
		event.Key{Type: event.TypeHistoryVisibility},
		event.Key{Type: event.TypeMember, StateKey: string(v.By.User)})
	if err != nil {
		return standing{}, err
	}
	at := standing{visibility: visibilityOf(found[0]), membership: event.Leave}
	if found[1] != nil {
		at.membership = found[1].Membership()
	}
	return at, nil
}

// visibilityOf reads a history visibility; "shared" if e is nil or makes no sense.
func visibilityOf(e *rooms.Event) string {
	if e == nil {
		return shared
	}
	text, _ := canonical.String(canonical.Get(e.Content, "history_visibility"))
	switch text {
	case worldReadable, invited, "joined":
		return text
	}
	return shared
}
