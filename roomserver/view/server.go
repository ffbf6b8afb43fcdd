package view

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// ServerViewer is the eye of another server on a room that it is in. It is made for one request and forgotten, and not
// safe for concurrent use.
//
// What authorises and what is state, such a server may have in full, as it could not check the room otherwise. Of the
// timeline it has in full what one of its users may see by the history visibility at that place, and of the rest the
// redacted form, which leaves the graph whole.
type ServerViewer struct {
	Room rooms.Room
	Of   matrix.ServerName

	server *roomserver.Server
	q      storage.Querier
	users  []matrix.UserID // of the server; nil until needed
	memo   map[statetree.NodeID]presence
}

// presence is what decides at one state of the room.
type presence struct {
	visibility      string
	joined, invited bool // any user of the server
}

// Limits on the search for users of a server.
const (
	maxServerUsers   = 2000 // looked at in one state; those that are joined now first
	serverUsersChunk = 200
)

// OpenServer returns the eye of a server on a room. The error is M_FORBIDDEN if the server has no user in it, and the same
// if the room is not known, so that nobody learns which rooms there are. A server that was in a room when we joined is in it
// until all its members are known.
func OpenServer(ctx context.Context, server *roomserver.Server, q storage.Querier, in ServerIn) (*ServerViewer, error) {
	room, err := server.Room(ctx, in.Room)
	if matrix.CodeOf(err) == matrix.NotFound {
		return nil, serverNotIn(in)
	}
	if err != nil {
		return nil, err
	}
	present, err := server.MayBeIn(ctx, room, in.Server)
	if err == nil && !present {
		err = serverNotIn(in)
	}
	if err != nil {
		return nil, err
	}
	return &ServerViewer{Room: room, Of: in.Server, server: server, q: q, memo: map[statetree.NodeID]presence{}}, nil
}

// ServerIn names a server and a room.
type ServerIn struct {
	Server matrix.ServerName
	Room   matrix.RoomID
}

func serverNotIn(in ServerIn) error {
	return matrix.Errorf(matrix.Forbidden, "%s is not in %s, or the room is not known here", in.Server, in.Room)
}

// PDU returns an event as the server may have it: in full, or its redacted form. It is false if the server may not have
// it at all, since it is no part of the room.
// https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility
func (v *ServerViewer) PDU(ctx context.Context, e *rooms.Event) (pdu []byte, ok bool, err error) {
	switch e.Kind {
	case rooms.Rejected:
		return nil, false, nil
	case rooms.Outlier:
		return e.JSON, e.IsState(), nil
	}
	visible, err := v.sees(ctx, e)
	if err != nil {
		return nil, false, err
	}
	if visible {
		return e.JSON, true, nil
	}
	return e.RedactedJSON(), true, nil
}

// sees applies the history visibility before and after an event: whichever shows more counts, as for users.
func (v *ServerViewer) sees(ctx context.Context, e *rooms.Event) (bool, error) {
	if e.Type == event.TypeCreate && e.IsState() {
		return true, nil
	}
	if e.StateUnknown {
		return false, nil
	}
	at, err := v.presenceAt(ctx, e.StateBefore)
	if err != nil || at.allows() {
		return err == nil, err
	}
	if e.Type == event.TypeHistoryVisibility && e.IsState() && *e.StateKey == "" {
		at.visibility = visibilityOf(e)
	}
	if e.Target().Server() == v.Of {
		at.joined = at.joined || e.Membership() == event.Join
		at.invited = at.invited || e.Membership() == event.Invite
	}
	return at.allows(), nil
}

func (p presence) allows() bool {
	switch p.visibility {
	case "joined":
		return p.joined
	case invited:
		return p.joined || p.invited
	}
	return true // to all who are in the room now
}

func (v *ServerViewer) presenceAt(ctx context.Context, root statetree.NodeID) (presence, error) {
	if at, ok := v.memo[root]; ok {
		return at, nil
	}
	at, err := v.findPresence(ctx, v.server.StateAt(v.Room, root))
	if err == nil {
		v.memo[root] = at
	}
	return at, err
}

func (v *ServerViewer) findPresence(ctx context.Context, state roomserver.State) (at presence, err error) {
	setting, err := state.Event(ctx, event.Key{Type: event.TypeHistoryVisibility})
	if err != nil {
		return at, err
	}
	at.visibility = visibilityOf(setting)
	if at.allows() {
		return at, nil // whoever was there
	}
	if v.users == nil {
		if v.users, err = rooms.UsersOf(ctx, v.q, v.Room.Num, v.Of, maxServerUsers); err != nil {
			return at, err
		}
	}
	for begin := 0; begin < len(v.users) && !at.joined; begin += serverUsersChunk {
		if err := at.look(ctx, state, v.users[begin:min(begin+serverUsersChunk, len(v.users))]); err != nil {
			return at, err
		}
	}
	return at, nil
}

// look notes how some users stand to the room in a state.
func (p *presence) look(ctx context.Context, state roomserver.State, users []matrix.UserID) error {
	keys := make([]event.Key, len(users))
	for i, user := range users {
		keys[i] = event.Key{Type: event.TypeMember, StateKey: string(user)}
	}
	found, err := state.Known(ctx, keys...)
	if err != nil {
		return err
	}
	for _, member := range found {
		if member != nil {
			p.joined = p.joined || member.Membership() == event.Join
			p.invited = p.invited || member.Membership() == event.Invite
		}
	}
	return nil
}
