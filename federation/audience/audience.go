package audience

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/federation/access"
	"github.com/myelin-chat/myelin/federation/outbox"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Rooms says who is to be told of what happens in rooms: the outbox.Rooms of the server.
//
// It remembers the servers of rooms, each at one state of the room, and goes from one state to the next by what differs
// between them: a message to a room of any size costs a look into a map.
type Rooms struct {
	db    *storage.DB
	rooms *roomserver.Server
	acls  access.ACLs

	mu    sync.Mutex
	known map[int64]*residents // by number of the room
}

var _ outbox.Rooms = (*Rooms)(nil)

// NewRooms returns the audience of the rooms of this server.
func NewRooms(db *storage.DB, r *roomserver.Server) *Rooms {
	return &Rooms{db: db, rooms: r, known: map[int64]*residents{}}
}

// residents are the servers in a room at one state of it.
type residents struct {
	mu     sync.Mutex
	loaded bool
	root   statetree.NodeID
	joined map[matrix.ServerName]int // users; none is 0
	// Of a room that is partial, or was left before it was whole: the servers that were said to be in it at our join.
	named   []matrix.ServerName
	partial bool

	listed    bool
	list      []matrix.ServerName // those whom the ACL of that state permits; not changed once made
	ours      bool                // this server is among them, whatever the ACL says
	listedFor statetree.NodeID
}

const (
	// maxResidents bounds the rooms whose servers are remembered.
	maxResidents = 5000
	// maxNamed bounds the servers that are told of an event because one server alone has said that they are in the room. It
	// need not be true, and they have not asked for it. Those that are left out see by the next event what they lack.
	maxNamed = 1000
)

// Owed implements outbox.Rooms.
//
// The join by which this server came into a room is owed to nobody: the server through which it came passes it on.
func (a *Rooms) Owed(ctx context.Context, ev *rooms.Event) ([]matrix.ServerName, error) {
	from := ev.Sender.Server()
	if from != a.rooms.ServerName() && !ev.Relayed {
		return nil, nil
	}
	room, err := a.rooms.Room(ctx, ev.RoomID)
	if err != nil {
		return nil, err
	}
	owed, err := a.owed(ctx, room, ev)
	if !errors.Is(err, statetree.ErrMissing) {
		return owed, err
	}
	// The state before it was found anew since the event was read, and what that was before is deleted.
	now, err := a.rooms.Events(ctx, room, []int64{ev.Num})
	if err != nil || now[0].Kind != rooms.Live {
		return nil, err
	}
	return a.owed(ctx, room, now[0])
}

// owed returns the servers to which an event of our own, or one that we pass on, is owed.
func (a *Rooms) owed(ctx context.Context, room rooms.Room, ev *rooms.Event) ([]matrix.ServerName, error) {
	if ev.StateUnknown {
		return a.Servers(ctx, room.ID)
	}
	from := ev.Sender.Server()
	before := a.rooms.StateAt(room, ev.StateBefore)
	in, ours, err := a.at(ctx, before)
	if err != nil || !ours {
		return nil, err
	}
	outside, err := a.outside(ctx, ev, before)
	if err != nil {
		return nil, err
	}
	if outside != "" && !slices.Contains(in, outside) {
		in = append(slices.Clone(in), outside)
	}
	if from != a.rooms.ServerName() && slices.Contains(in, from) {
		in = slices.DeleteFunc(slices.Clone(in), func(s matrix.ServerName) bool { return s == from })
	}
	return in, nil
}

// outside returns the server that an event concerns though it may not be in the room: that of a user whose invite or
// knock comes to nothing, who would wait for ever. Who is invited hears of that in another way.
func (a *Rooms) outside(ctx context.Context, ev *rooms.Event, before roomserver.State) (matrix.ServerName, error) {
	target := ev.Target()
	if target == "" || target.Server() == a.rooms.ServerName() {
		return "", nil
	}
	if m := ev.Membership(); m != event.Leave && m != event.Ban {
		return "", nil
	}
	found, err := before.Known(ctx, event.Key{Type: event.TypeMember, StateKey: string(target)})
	if err != nil || found[0] == nil {
		return "", err
	}
	if was := found[0].Membership(); was != event.Invite && was != event.Knock {
		return "", nil
	}
	permits, err := a.permits(ctx, before)
	if err != nil || !permits(target.Server()) {
		return "", err
	}
	return target.Server(), nil
}

// Servers implements outbox.Rooms.
func (a *Rooms) Servers(ctx context.Context, room matrix.RoomID) ([]matrix.ServerName, error) {
	now, err := a.rooms.Current(ctx, room)
	if matrix.CodeOf(err) == matrix.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	in, ours, err := a.at(ctx, now)
	if err != nil || !ours {
		return nil, err // nobody is told anything by who has left
	}
	return in, nil
}

// Sharing implements outbox.Rooms.
func (a *Rooms) Sharing(ctx context.Context, user matrix.UserID) ([]matrix.ServerName, error) {
	all, _, err := a.sharing(ctx, user, "")
	return slices.Sorted(maps.Keys(all)), err
}

// SharingOnly returns the servers that share a room with a user, if it is in there, and no other room.
func (a *Rooms) SharingOnly(ctx context.Context, user matrix.UserID, room matrix.RoomID) ([]matrix.ServerName, error) {
	elsewhere, there, err := a.sharing(ctx, user, room)
	if err != nil || !there {
		return nil, err
	}
	in, err := a.Servers(ctx, room)
	return slices.DeleteFunc(slices.Clone(in), func(s matrix.ServerName) bool { return elsewhere[s] }), err
}

// sharing returns the servers in the rooms of a user but one, and whether the user is in that.
func (a *Rooms) sharing(ctx context.Context, user matrix.UserID, except matrix.RoomID) (all map[matrix.ServerName]bool, there bool, err error) {
	in, err := rooms.MembershipsOfUser(ctx, a.db, user, 0)
	if err != nil {
		return nil, false, fmt.Errorf("rooms of %s: %w", user, err)
	}
	all = map[matrix.ServerName]bool{}
	for _, m := range in {
		if m.Membership != event.Join {
			continue
		}
		if m.Room == except {
			there = true
			continue
		}
		servers, err := a.Servers(ctx, m.Room)
		if err != nil {
			return nil, false, err
		}
		for _, s := range servers {
			all[s] = true
		}
	}
	return all, there, nil
}

// at returns the servers that are in a room at a state of it, and whether this one is.
func (a *Rooms) at(ctx context.Context, st roomserver.State) (in []matrix.ServerName, ours bool, err error) {
	r := a.residents(st.Room().Num)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listed && r.listedFor == st.Root() {
		return r.list, r.ours, nil
	}
	if !r.loaded || r.partial {
		if err := a.load(ctx, r, st.Room()); err != nil {
			return nil, false, err
		}
	}
	err = a.move(ctx, r, st)
	if errors.Is(err, statetree.ErrMissing) { // the state that is remembered may be deleted by now: no other was like it
		if err = a.load(ctx, r, st.Room()); err == nil {
			err = a.move(ctx, r, st)
		}
	}
	if err != nil {
		return nil, false, err
	}
	if err := a.write(ctx, r, st); err != nil {
		return nil, false, err
	}
	return r.list, r.ours, nil
}

func (a *Rooms) residents(room int64) *residents {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.known[room]
	if r != nil {
		return r
	}
	if len(a.known) >= maxResidents {
		for other := range a.known { // any
			delete(a.known, other)
			break
		}
	}
	r = &residents{}
	a.known[room] = r
	return r
}

// load counts the members as they are now, which is faster than to read a state as a whole. Of a partial room, only the
// servers of most members are known: it is loaded again for each of its states.
func (a *Rooms) load(ctx context.Context, r *residents, room rooms.Room) error {
	joined := map[matrix.ServerName]int{}
	var root statetree.NodeID
	var partial rooms.PartialJoin
	err := a.db.Snapshot(ctx, func(q storage.Querier) error {
		head, found, err := rooms.HeadOf(ctx, q, room.Num)
		if err != nil || !found {
			return err
		}
		if partial, _, err = rooms.LatestPartial(ctx, q, room.Num); err != nil {
			return err
		}
		members, err := rooms.MembersOf(ctx, q, room.Num, event.Join)
		for _, m := range members {
			joined[m.User.Server()]++
		}
		root = head.Root
		return err
	})
	if err != nil {
		return fmt.Errorf("members of %s: %w", room.ID, err)
	}
	r.joined, r.root, r.loaded, r.named = joined, root, true, nil
	r.partial = partial.Hole != 0 && partial.Until == 0
	if r.partial || partial.Members == 0 {
		r.named = partial.Servers
	}
	return nil
}

// move goes on to another state.
func (a *Rooms) move(ctx context.Context, r *residents, st roomserver.State) error {
	if r.root == st.Root() {
		return nil
	}
	old := a.rooms.StateAt(st.Room(), r.root)
	came, err := st.Changed(ctx, old)
	if err != nil {
		return err
	}
	went, err := old.Changed(ctx, st)
	if err != nil {
		return err
	}
	for _, ev := range came {
		r.count(ev, +1)
	}
	for _, ev := range went {
		r.count(ev, -1)
	}
	r.root = st.Root()
	return nil
}

func (r *residents) count(ev *rooms.Event, by int) {
	if ev.Type != event.TypeMember || ev.Membership() != event.Join {
		return
	}
	s := ev.Target().Server()
	if r.joined[s] += by; r.joined[s] == 0 {
		delete(r.joined, s)
	}
}

// write makes the list of the servers that the ACL permits.
func (a *Rooms) write(ctx context.Context, r *residents, st roomserver.State) error {
	permits, err := a.permits(ctx, st)
	if err != nil {
		return err
	}
	holed := r.partial
	if len(r.named) > 0 && !holed {
		if holed, err = st.LacksMembers(ctx); err != nil {
			return err
		}
	}
	list := make([]matrix.ServerName, 0, len(r.joined))
	for s := range r.joined {
		if permits(s) {
			list = append(list, s)
		}
	}
	if holed {
		list = append(list, r.unproven(permits)...)
	}
	slices.Sort(list)
	r.list, r.ours = slices.Compact(list), r.joined[a.rooms.ServerName()] > 0
	r.listed, r.listedFor = true, st.Root()
	return nil
}

// unproven returns servers that were said to be in the room and of which no user is known to be, the one that said so first.
func (r *residents) unproven(permits func(matrix.ServerName) bool) (list []matrix.ServerName) {
	for _, s := range r.named {
		if len(list) == maxNamed {
			break
		}
		if r.joined[s] == 0 && permits(s) {
			list = append(list, s)
		}
	}
	return list
}

// permits returns what says whether the ACL of a state permits a server.
func (a *Rooms) permits(ctx context.Context, st roomserver.State) (func(matrix.ServerName) bool, error) {
	acl, err := st.Event(ctx, event.Key{Type: event.TypeServerACL})
	if err != nil {
		return nil, err
	}
	return func(s matrix.ServerName) bool { return acl == nil || a.acls.Permits(acl.Num, acl.Content, s) }, nil
}
