package syncapi

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// user is somebody with a client. Its places are guarded by the hub's lock, its
// waiters and filters by its own.
type user struct {
	id     matrix.UserID
	places map[int64]place  // by room number
	loaded bool             // places has them all
	news   storage.Position // the latest of its own: account data and the like

	loading sync.Mutex // one reads the places at a time

	syncs atomic.Int64 // requests that use the entry now
	used  atomic.Int64 // when the last one ended, Unix nanoseconds

	mu      sync.Mutex
	waiters map[chan struct{}]struct{}
	filters map[string]*view.Filter // parsed, by ID
	lazy    map[matrix.DeviceID]*lazyMembers

	ignored   map[matrix.UserID]bool // nil: not read yet
	ignoredAt storage.Position       // the user's latest news when it was read
}

// place is how a user stands to a room.
type place struct {
	rooms.Membership
	stale   bool             // it changed: to be read again
	changed storage.Position // the news that made it stale
}

// subscribe returns a channel that tells of news for the user from now on.
func (u *user) subscribe() (news chan struct{}, cancel func()) {
	news = make(chan struct{}, 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiters == nil {
		u.waiters = map[chan struct{}]struct{}{}
	}
	u.waiters[news] = struct{}{}
	return news, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.waiters, news)
	}
}

// wake tells all who wait. It never blocks.
func (u *user) wake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for news := range u.waiters {
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// idle says whether nobody has used the entry for a while.
func (u *user) idle(now time.Time) bool {
	return u.syncs.Load() == 0 && now.UnixNano()-u.used.Load() > int64(keepUsers)
}

// enter returns the entry of a user, with its places known. leave must be called
// when the request is over.
func (h *hub) enter(ctx context.Context, id matrix.UserID) (u *user, leave func(), err error) {
	h.mu.Lock()
	u = h.users[id]
	if u == nil {
		u = &user{id: id, news: h.position}
		h.users[id] = u
	}
	u.syncs.Add(1)
	h.mu.Unlock()
	leave = func() {
		u.used.Store(time.Now().UnixNano())
		u.syncs.Add(-1)
	}
	if err := h.refresh(ctx, u); err != nil {
		leave()
		return nil, nil, err
	}
	return u, leave, nil
}

// refresh reads what is not known, or no longer, of a user's places. It returns
// when the hub has taken in at least what was read.
func (h *hub) refresh(ctx context.Context, u *user) error {
	u.loading.Lock()
	defer u.loading.Unlock()
	for {
		w := h.wanted(u)
		if w.loaded && len(w.stale) == 0 {
			return nil
		}
		found, err := h.readPlaces(ctx, u.id, w)
		if err != nil {
			return err
		}
		if err := h.reach(ctx, h.db.Position()); err != nil {
			return err
		}
		h.settle(u, found, w)
	}
}

// wanted is what has to be read of a user's places.
type wanted struct {
	loaded     bool             // false: everything
	stale      []int64          // rooms
	generation int64            // of the hub when this was found
	seen       storage.Position // what is read now shows everything up to here
}

func (h *hub) wanted(u *user) wanted {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := wanted{loaded: u.loaded, generation: h.generation, seen: h.db.Position()}
	if !u.loaded && u.places == nil {
		u.places = map[int64]place{} // from here on, changes are marked in it
	}
	for num, p := range u.places {
		if p.stale {
			w.stale = append(w.stale, num)
		}
	}
	return w
}

func (h *hub) readPlaces(ctx context.Context, id matrix.UserID, w wanted) ([]rooms.Membership, error) {
	if !w.loaded {
		return rooms.MembershipsOfUser(ctx, h.db, id, 0)
	}
	var found []rooms.Membership
	for _, num := range w.stale {
		m, ok, err := rooms.MembershipOf(ctx, h.db, num, id)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, m)
		}
	}
	return found, nil
}

// settle files what was read. A place that changed since then stays stale.
func (h *hub) settle(u *user, found []rooms.Membership, w wanted) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.generation != w.generation {
		return // started afresh meanwhile: nothing of it counts
	}
	for _, num := range w.stale {
		if u.places[num].changed <= w.seen {
			delete(u.places, num)
		}
	}
	for _, m := range found {
		if u.places[m.RoomNum].changed > w.seen {
			continue
		}
		u.places[m.RoomNum] = place{Membership: m}
		r := h.room(m.RoomNum, m.Room)
		if m.Membership == event.Join {
			r.users[u] = struct{}{}
		} else {
			delete(r.users, u)
		}
	}
	u.loaded = true
}

// glance is what the hub knew for one user at one moment.
type glance struct {
	position storage.Position
	news     storage.Position // the user's latest own
	since    storage.Position // what happened before is not known to have been told
	rooms    []sight          // those that may have moved since the token
	stale    bool             // a place changed: refresh, and look again
}

// sight is one room of a glance.
type sight struct {
	place
	glimpse
}

// glance returns what a sync of u from since needs; all its rooms if all is set.
func (h *hub) glance(u *user, since storage.Position, all bool) glance {
	h.mu.RLock()
	defer h.mu.RUnlock()
	g := glance{position: h.position, news: u.news, since: since, stale: !u.loaded}
	for num, p := range u.places {
		if p.stale {
			g.stale = true
			return g
		}
		r := h.rooms[num]
		if all || p.Position > since || r.last > since || r.from > since {
			g.rooms = append(g.rooms, sight{p, r.glimpse()})
		}
	}
	return g
}

// addRooms adds to a glance the other rooms of u that also selects. It is false if
// a place changed meanwhile, so that the glance is to be taken again.
func (h *hub) addRooms(u *user, g *glance, also func(matrix.RoomID) bool) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	have := make(map[int64]bool, len(g.rooms))
	for _, s := range g.rooms {
		have[s.RoomNum] = true
	}
	for num, p := range u.places {
		if p.stale || p.Position > g.position {
			return false
		}
		if !have[num] && p.Membership.Membership == event.Join && also(p.Room) {
			g.rooms = append(g.rooms, sight{p, h.rooms[num].glimpse()})
		}
	}
	return u.loaded
}

// joinedToAny says whether u is in one of the rooms that somebody else is in.
func (h *hub) joinedToAny(u *user, theirs []rooms.Membership) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range theirs {
		if m.Membership == event.Join && u.places[m.RoomNum].Membership.Membership == event.Join {
			return true
		}
	}
	return false
}

// shares says whether u is in a room in which another user is too. It is not known
// of a user without a client here.
func (h *hub) shares(u *user, id matrix.UserID) (shares, known bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	other := h.users[id]
	if other == nil || !other.loaded {
		return false, false
	}
	small, big := u.places, other.places
	if len(big) < len(small) {
		small, big = big, small
	}
	for num := range small {
		if small[num].Membership.Membership == event.Join && big[num].Membership.Membership == event.Join {
			return true, true
		}
	}
	return false, true
}
