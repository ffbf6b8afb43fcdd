package syncapi

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// user is somebody with a client. The hub's lock guards what stands first; its
// waiters and what follows, its own.
type user struct {
	id     matrix.UserID
	places map[int64]*place           // by room number; a place is never changed, but replaced
	stale  map[int64]storage.Position // rooms whose place changed, by this news: to be read again
	loaded bool                       // places has them all
	news   storage.Position           // the latest of its own: account data and the like
	moved  storage.Position           // nothing after this concerns the user, but for its inboxes
	inbox  storage.Position           // no message came for any of its devices after this

	loading sync.Mutex // one reads the places at a time

	syncs atomic.Int64 // requests that use the entry now
	used  atomic.Int64 // when the last one ended, Unix nanoseconds

	mu      sync.Mutex
	waiters map[chan struct{}]struct{}
	filters map[string]*view.Filter // parsed, by ID
	lazy    map[matrix.DeviceID]*lazyMembers
	given   map[matrix.DeviceID]storage.Position // up to where messages were given and are not removed; 0: nowhere

	ignored   map[matrix.UserID]bool // nil: not read yet
	ignoredAt storage.Position       // the user's latest news when it was read
}

// place is how a user stands to a room.
type place struct {
	rooms.Membership
	room *room // of one that is joined: what is kept of it
}

// joined says whether u, whose place it is, is in the room now, be the place stale.
func (p *place) joined(u *user) bool {
	if p.room == nil {
		return false
	}
	_, in := p.room.users[u]
	return in
}

// subscribe returns a channel that tells of news for the user from now on, until
// unsubscribe.
func (u *user) subscribe() (news chan struct{}) {
	news = make(chan struct{}, 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiters == nil {
		u.waiters = map[chan struct{}]struct{}{}
	}
	u.waiters[news] = struct{}{}
	return news
}

func (u *user) unsubscribe(news chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.waiters, news)
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
func (h *hub) enter(ctx context.Context, id matrix.UserID) (*user, error) {
	u := h.entry(id)
	if err := h.refresh(ctx, u); err != nil {
		u.leave()
		return nil, err
	}
	return u, nil
}

// leave ends what enter began.
func (u *user) leave() {
	u.used.Store(time.Now().UnixNano())
	u.syncs.Add(-1)
}

// entry returns the entry of a user, made if there is none, and counts one more
// sync of it, so that it is not swept.
func (h *hub) entry(id matrix.UserID) *user {
	h.mu.RLock()
	u := h.users[id]
	if u != nil {
		u.syncs.Add(1)
	}
	h.mu.RUnlock()
	if u != nil {
		return u
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if u = h.users[id]; u == nil {
		u = &user{id: id, news: h.position, moved: h.position, inbox: h.position}
		h.users[id] = u
	}
	u.syncs.Add(1)
	return u
}

// fresh says whether the places of u are all known.
func (h *hub) fresh(u *user) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return u.loaded && len(u.stale) == 0
}

// quiet says whether nothing since a token concerns u.
func (h *hub) quiet(u *user, since view.SyncToken) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return u.loaded && len(u.stale) == 0 && u.moved <= since.Position && u.inbox <= since.ToDevice
}

// refresh reads what is not known, or no longer, of a user's places. What was read
// is filed once the hub has taken it in: no place is newer than the hub.
func (h *hub) refresh(ctx context.Context, u *user) error {
	if h.fresh(u) {
		return nil
	}
	u.loading.Lock()
	defer u.loading.Unlock()
	for !h.fresh(u) {
		w := h.wanted(u)
		found, err := h.readPlaces(ctx, u.id, w)
		if err != nil {
			return err
		}
		if err := h.reach(ctx, newest(found, w.seen)); err != nil {
			return err
		}
		h.settle(u, found, w)
	}
	return nil
}

// newest returns the latest position of some memberships, or atLeast. The database
// shows a commit before the log does, so that it may be one the log has not come to.
func newest(found []rooms.Membership, atLeast storage.Position) storage.Position {
	for _, m := range found {
		atLeast = max(atLeast, m.Position)
	}
	return atLeast
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
	if u.places == nil {
		u.places = map[int64]*place{} // from here on, changes are marked
	}
	return wanted{
		loaded: u.loaded, stale: slices.Collect(maps.Keys(u.stale)), generation: h.generation, seen: h.tip(),
	}
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
		if u.stale[num] <= w.seen {
			delete(u.stale, num)
			delete(u.places, num)
		}
	}
	for _, m := range found {
		if u.stale[m.RoomNum] > w.seen {
			continue
		}
		delete(u.stale, m.RoomNum)
		p := &place{Membership: m}
		if m.Membership == event.Join {
			p.room = h.room(m.RoomNum, m.Room)
		}
		if r := h.rooms[m.RoomNum]; r != nil {
			r.put(u, m.Membership)
		}
		u.places[m.RoomNum] = p
	}
	u.loaded = true
	u.moved = h.position // what happened in a room before the user was put there did not count for it
}

// glance is what the hub knew for one user at one moment. The answer is of that
// moment: its places are as they were then, and timelines, roots, receipts and the
// past of memberships are cut to it wherever they are read. A few things are read as
// of now, and may be newer: summaries and heroes, whoever shares a room, all account
// data of a room that is new to the client, typing, presence, redactions. What made
// them so has a position beyond this one, or a higher count, and so the next answer
// tells them again. Of receipts and account data the database keeps only the latest:
// one that was replaced since is left to the next answer too. The list of ignored
// users takes effect as soon as it is read.
type glance struct {
	position storage.Position
	news     storage.Position // the user's latest own
	inbox    storage.Position // no message to a device of the user is later
	rooms    []sight          // those that may have moved since the token
	stale    bool             // a place changed: refresh, and look again
}

// sight is one room of a glance.
type sight struct {
	*place
	glimpse
}

// glance returns what a sync of u from since needs; all its rooms if all is set.
func (h *hub) glance(u *user, since storage.Position, all bool) glance {
	h.mu.RLock()
	defer h.mu.RUnlock()
	g := glance{position: h.position, news: u.news, inbox: u.inbox, stale: !u.loaded || len(u.stale) > 0}
	if g.stale || !all && u.moved <= since {
		return g
	}
	if all {
		g.rooms = make([]sight, 0, len(u.places))
	}
	for _, p := range u.places {
		if all || p.Position > since || p.room != nil && (p.room.last > since || p.room.from > since) {
			g.rooms = append(g.rooms, sight{p, h.glimpse(p)})
		}
	}
	return g
}

// glimpse returns what is in memory of the room of a place.
func (h *hub) glimpse(p *place) glimpse {
	if p.room != nil {
		return p.room.glimpse()
	}
	if r := h.rooms[p.RoomNum]; r != nil {
		return r.glimpse()
	}
	return unknown(h.position)
}

// addRooms adds to a glance those of more that u is in. It is false if a place
// changed meanwhile, so that the glance is to be taken again.
func (h *hub) addRooms(u *user, g *glance, more []matrix.RoomID) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !u.loaded || len(u.stale) > 0 {
		return false
	}
	for _, id := range more {
		r := h.byID[id]
		if r == nil {
			continue // nobody with a client is in it
		}
		p := u.places[r.num]
		switch {
		case p == nil || slices.ContainsFunc(g.rooms, func(s sight) bool { return s.RoomNum == r.num }):
		case p.Position > g.position:
			return false
		case p.room != nil:
			g.rooms = append(g.rooms, sight{p, r.glimpse()})
		}
	}
	return true
}

// joinedToAny says whether u is in one of the rooms that somebody else is in.
func (h *hub) joinedToAny(u *user, theirs []rooms.Membership) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range theirs {
		if p := u.places[m.RoomNum]; p != nil && m.Membership == event.Join && p.joined(u) {
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
	a, b := u, other
	if len(b.places) < len(a.places) && len(b.stale) == 0 {
		a, b = b, a
	}
	for _, p := range a.places {
		if !p.joined(a) {
			continue
		}
		if _, in := p.room.users[b]; in {
			return true, true
		}
	}
	return false, true
}
