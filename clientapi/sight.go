package clientapi

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// eye is a caller's eye on the room that its request names, and how far it reaches.
type eye struct {
	*view.Viewer
	view.Sight
}

// open opens the room of the path for the caller. Who may see nothing of its timeline and state is refused, whether or
// not there is such a room.
func (a *API) open(ctx context.Context, c *httpapi.Call) (eye, error) {
	v, err := a.viewer(ctx, c)
	if err != nil {
		return eye{}, err
	}
	sight, err := v.Standing(ctx)
	return eye{v, sight}, err
}

// viewer opens the room of the path without a look at how far the caller sees: for what is decided event by event.
func (a *API) viewer(ctx context.Context, c *httpapi.Call) (*view.Viewer, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return view.Open(ctx, a.rooms, a.db, c.Requester, room)
}

// state is the state that the eye sees: the present one, or that in which its user left the room.
func (a *API) state(ctx context.Context, at eye) (roomserver.State, error) {
	if at.Until == 0 {
		return a.rooms.Current(ctx, at.Room.ID)
	}
	return a.stateAt(ctx, at, at.Until)
}

// stateAt is the current state as it was at a position that the eye reaches.
func (a *API) stateAt(ctx context.Context, at eye, p storage.Position) (roomserver.State, error) {
	if at.Until != 0 {
		p = min(p, at.Until)
	}
	root, err := rooms.RootAt(ctx, a.db, at.Room.Num, p)
	return a.rooms.StateAt(at.Room, root), err
}

// mustBeJoined refuses who is not in a room, in the words used for rooms that are not known.
func mustBeJoined(v *view.Viewer) error {
	if v.Joined() {
		return nil
	}
	return matrix.Errorf(matrix.Forbidden, "%s is not in %s, or the room is not known here", v.By.User, v.Room.ID)
}

// form is how events look outside of /sync.
func (a *API) form() view.Form { return view.Form{Now: a.now(), RoomID: true} }

// stateForm is how events look that are shown as a part of a state. What they replaced is left out, since that would
// have to be looked up for each of them.
func (a *API) stateForm() view.Form { return view.Form{Now: a.now(), RoomID: true, NoPrevious: true} }

// shown takes state events for visible, because the whole state is; in the order in which they came.
func shown(events []*rooms.Event) []view.Seen {
	slices.SortFunc(events, func(a, b *rooms.Event) int { return cmp.Compare(a.Num, b.Num) })
	seen := make([]view.Seen, len(events))
	for i, e := range events {
		seen[i].Event = e
	}
	return seen
}

// senders returns the member events of those who sent events, each as of its user's latest event among them.
// https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members
func (a *API) senders(ctx context.Context, room rooms.Room, events []view.Seen) ([]*rooms.Event, error) {
	latest := map[matrix.UserID]*rooms.Event{}
	for _, e := range events {
		if have := latest[e.Sender]; have == nil || e.Order.Compare(have.Order) > 0 {
			latest[e.Sender] = e.Event
		}
	}
	// Those who sent into the same state are looked up in it together.
	left := slices.SortedFunc(maps.Values(latest), func(a, b *rooms.Event) int { return cmp.Compare(a.StateBefore, b.StateBefore) })
	members := make([]*rooms.Event, 0, len(latest))
	for len(left) > 0 {
		root := left[0].StateBefore
		var keys []event.Key
		of := left
		for len(left) > 0 && left[0].StateBefore == root {
			keys = append(keys, memberKey(left[0].Sender))
			left = left[1:]
		}
		found, err := a.rooms.StateAt(room, root).Cited(ctx, of[:len(keys)], keys...)
		if err != nil {
			return nil, err
		}
		members = append(members, found...)
	}
	return slices.DeleteFunc(members, func(e *rooms.Event) bool { return e == nil }), nil
}

func memberKey(user matrix.UserID) event.Key {
	return event.Key{Type: event.TypeMember, StateKey: string(user)}
}

// roomFilter reads the parameter "filter"; absent, it selects everything.
func roomFilter(c *httpapi.Call) (*view.RoomEventFilter, error) {
	if text := c.Query("filter"); text != "" {
		return view.ParseRoomEventFilter([]byte(text))
	}
	return &view.RoomEventFilter{}, nil
}

// pageLimit reads the parameter "limit", within bounds; absent, it is what the filter says.
func pageLimit(c *httpapi.Call, f *view.RoomEventFilter) (int, error) {
	text := c.Query("limit")
	if text == "" {
		return f.TimelineLimit(), nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit < 0 {
		return 0, matrix.Errorf(matrix.InvalidParam, "\"limit\" must be a number that is not negative")
	}
	return int(min(limit, view.MaxPage)), nil
}

// maxOpaqueBytes bounds transaction IDs and event types.
// https://spec.matrix.org/v1.19/appendices/#opaque-identifiers
const maxOpaqueBytes = 255

// opaque reads a path parameter that may be any text, but for none at all.
func opaque(c *httpapi.Call, name string) (string, error) {
	text := c.Path(name)
	if text == "" || len(text) > maxOpaqueBytes {
		return "", matrix.Errorf(matrix.InvalidParam, "%s in the path must have 1 to %d bytes", name, maxOpaqueBytes)
	}
	return text, nil
}
