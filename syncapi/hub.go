package syncapi

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of what the hub keeps.
const (
	newsAtOnce = 1024             // pieces of news taken in under one lock
	lookAgain  = 10 * time.Second // the log is looked at even if no wake-up comes
	keepUsers  = 5 * time.Minute  // a user without a sync in flight
	ringBudget = 64 << 20         // bytes of events in all rings
)

// hub is the recent past in memory. Everything up to position has been taken in.
// What a room or user did before it got its entry, only the database knows.
//
// A room has an entry while somebody with a client is in it; a user, while it has
// a client. Of a loaded user, room.users is always right as of position, and each
// place of its own that is not stale is.
//
// The database shows a commit before the log tells of it: what is read from it may
// be newer than position, and so of no use for an answer as of position, unless it
// is cut to that or told again by the next.
type hub struct {
	db   *storage.DB
	tip  func() storage.Position // how far the log goes
	kick chan struct{}           // capacity 1

	mu         sync.RWMutex
	position   storage.Position
	generation int64         // how often the hub was started afresh
	moved      chan struct{} // closed, and replaced, when position moves
	rooms      map[int64]*room
	users      map[matrix.UserID]*user
	byID       map[matrix.RoomID]*room // of rooms
	bytes      int64                   // of all rings
}

func newHub(db *storage.DB) *hub {
	return &hub{
		db: db, tip: db.Position, kick: make(chan struct{}, 1), position: db.Position(), moved: make(chan struct{}),
		rooms: map[int64]*room{}, users: map[matrix.UserID]*user{}, byID: map[matrix.RoomID]*room{},
	}
}

// wake makes run look at the log. It never blocks.
func (h *hub) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// run takes in the log as it grows, until ctx ends.
func (h *hub) run(ctx context.Context) error {
	timer := time.NewTicker(lookAgain)
	defer timer.Stop()
	for {
		for h.step() {
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.kick:
		case now := <-timer.C:
			h.sweep(now)
		}
	}
}

// step takes in what is new and says whether there may be more.
func (h *hub) step() bool {
	if h.tip() == h.at() {
		return false
	}
	news, complete := h.db.Since(h.at(), newsAtOnce)
	for _, u := range h.takeAll(news, complete) {
		u.wake() // without the lock, which is the first thing the woken want
	}
	return len(news) == newsAtOnce
}

// takeAll takes in a batch of news, or starts afresh if it is not complete, and
// returns whom it concerns.
func (h *hub) takeAll(news []storage.News, complete bool) []*user {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := batch{after: h.position}
	if !complete {
		h.startAfresh(&b)
	}
	for _, n := range news {
		if complete && n.Position > h.position { // else what made us start afresh covers it
			h.take(n, &b)
			h.position = n.Position
		}
	}
	if h.position != b.after {
		close(h.moved)
		h.moved = make(chan struct{})
	}
	return b.concerned
}

// batch gathers whom some news concern, each once.
type batch struct {
	after     storage.Position // of the hub before the batch
	concerned []*user
}

// add notes that something at position at concerns u.
func (b *batch) add(u *user, at storage.Position) {
	b.concern(u)
	u.moved = at
}

// post notes that a message for a device of u came at position at.
func (b *batch) post(u *user, at storage.Position) {
	b.concern(u)
	u.inbox = at
}

func (b *batch) concern(u *user) {
	if u.moved <= b.after && u.inbox <= b.after {
		b.concerned = append(b.concerned, u)
	}
}

// startAfresh forgets everything, as the memory of the log does not reach back
// far enough to go on. Everybody is woken, and served from the database.
func (h *hub) startAfresh(b *batch) {
	h.position = h.tip()
	h.generation++
	h.bytes = 0
	clear(h.rooms)
	clear(h.byID)
	for _, u := range h.users {
		u.places, u.stale, u.loaded, u.news = nil, nil, false, h.position
		b.add(u, h.position)
		b.post(u, h.position)
	}
}

func (h *hub) at() storage.Position {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.position
}

// reach waits until everything up to p has been taken in.
func (h *hub) reach(ctx context.Context, p storage.Position) error {
	for {
		h.mu.RLock()
		at, moved := h.position, h.moved
		h.mu.RUnlock()
		if at >= p {
			return nil
		}
		h.wake()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take files one piece of news, and adds the users it concerns to b.
func (h *hub) take(n storage.News, b *batch) {
	switch v := n.Value.(type) {
	case *rooms.Event:
		h.takeEvent(v.At(n.Position), b)
	case *rooms.Move:
		h.takeMove(v, n.Position, b)
	case rooms.Receipt:
		h.takeReceipt(v, n, b)
	case rooms.Membership:
		v.Position = n.Position
		h.takeMembership(v, b)
	case []matrix.UserID: // for some device of whom a message came
		for _, id := range v {
			if u := h.users[id]; u != nil {
				b.post(u, n.Position)
			}
		}
	default:
		if u := h.users[n.User]; u != nil {
			u.news = n.Position
			b.add(u, n.Position)
		}
	}
}

// takeReceipt files a receipt. A private one concerns its user alone.
// https://spec.matrix.org/v1.19/client-server-api/#private-read-receipts
func (h *hub) takeReceipt(v rooms.Receipt, n storage.News, b *batch) {
	v.Position = n.Position
	r := h.room(v.RoomNum, n.Room)
	r.addReceipt(v)
	if v.Type != privateReceipt {
		r.concerns(n.Position, b)
		return
	}
	if u := h.users[v.User]; u != nil {
		b.add(u, n.Position)
	}
}

// takeEvent files an event in its room.
func (h *hub) takeEvent(e *rooms.Event, b *batch) {
	r := h.room(e.RoomNum, e.RoomID)
	h.bytes += r.add(e)
	if len(e.Redacted) > 0 {
		h.bytes -= r.forgetEvents() // what was kept of the redacted is out of date
	}
	r.concerns(e.Position, b)
	if target := e.Target(); target != "" {
		h.takeMembership(rooms.Membership{
			RoomNum: e.RoomNum, User: target, Membership: e.Membership(), Position: e.Position,
		}, b)
	}
	h.shrink(r)
}

// takeMove files a move of a room's current state that no event of its timeline shows.
func (h *hub) takeMove(m *rooms.Move, at storage.Position, b *batch) {
	r := h.room(m.RoomNum, m.Room)
	r.move(rootMove{at, m.Root})
	if m.Again {
		h.bytes -= r.forgetEvents() // some of them may be in the timeline no longer,
		r.eventsFrom = at           // nor are they in what was read before and comes only now
	}
	r.concerns(at, b)
	for _, member := range m.Members {
		member.Position = at
		h.takeMembership(member, b)
	}
}

// takeMembership notes that a user's place in a room is another now. What it is
// exactly, the next sync of the user reads from the database.
func (h *hub) takeMembership(m rooms.Membership, b *batch) {
	u := h.users[m.User]
	if u == nil {
		return
	}
	b.add(u, m.Position)
	if u.places == nil {
		return // what is read later has it
	}
	if u.stale == nil {
		u.stale = map[int64]storage.Position{}
	}
	u.stale[m.RoomNum] = m.Position
	if r := h.rooms[m.RoomNum]; r != nil {
		r.put(u, m.Membership)
	}
}

// room returns what is kept of a room, made if it is new: nothing that happened
// in it since started was of interest to anybody with a client, or nothing did.
func (h *hub) room(num int64, id matrix.RoomID) *room {
	r := h.rooms[num]
	if r == nil {
		r = newRoom(num, id, h.position)
		h.rooms[num], h.byID[id] = r, r
	}
	return r
}

// learn adds what was read of a room's past to what is kept.
func (h *hub) learn(p passage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[p.room]
	if r == nil {
		return
	}
	h.bytes += r.prepend(p)
	h.shrink(r)
}

// learnReceipts notes all the receipts of a room up to a position.
func (h *hub) learnReceipts(roomNum int64, all []rooms.Receipt, upTo storage.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[roomNum]
	if r == nil || len(all)+len(r.receipts) > ringReceipts || r.receiptFrom == 0 || upTo < r.receiptFrom {
		return
	}
	old := slices.DeleteFunc(slices.Clone(all), func(v rooms.Receipt) bool { return v.Position > r.receiptFrom })
	r.receipts, r.receiptFrom = append(old, r.receipts...), 0
}

// learnSummary notes the summary of a room, read when the hub was at a position,
// unless the room's state has moved since.
func (h *hub) learnSummary(roomNum int64, sum *summary, at storage.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[roomNum]; r != nil && r.stateMoved <= at {
		r.summary = sum
	}
}

// shrink keeps the rings within their budget. It empties those that were used
// least lately, all but that of keep, until half the budget is free.
func (h *hub) shrink(keep *room) {
	if h.bytes <= ringBudget {
		return
	}
	var full []*room
	for _, r := range h.rooms {
		if r != keep && r.bytes > 0 {
			full = append(full, r)
		}
	}
	slices.SortFunc(full, func(a, b *room) int { return cmp.Compare(a.last, b.last) })
	for _, r := range append(full, keep) {
		if h.bytes <= ringBudget/2 {
			return
		}
		h.bytes -= r.forgetEvents()
	}
}

// ephemeralMoved wakes who may see a change of typing or presence.
func (h *hub) ephemeralMoved(c ephemeral.Change) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if c.Room != "" {
		if r := h.byID[c.Room]; r != nil {
			for u := range r.users {
				u.wake()
			}
		}
		return
	}
	woken := map[*user]struct{}{}
	for _, id := range c.Users {
		if u := h.users[id]; u != nil && u.loaded {
			woken[u] = struct{}{}
			h.neighbours(u, woken)
			continue
		}
		for _, u := range h.users { // whom it shares a room with is not known here
			woken[u] = struct{}{}
		}
	}
	for u := range woken {
		u.wake()
	}
}

// neighbours adds to found the users with a client who share a room with u.
func (h *hub) neighbours(u *user, found map[*user]struct{}) {
	for _, p := range u.places {
		if !p.joined(u) {
			continue
		}
		for other := range p.room.users {
			found[other] = struct{}{}
		}
	}
}

// sweep forgets users who have had no sync in flight for a while, and rooms that
// nobody with a client is in. What happened in them till they get another entry,
// the database knows.
func (h *hub) sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, u := range h.users {
		if !u.idle(now) {
			continue
		}
		delete(h.users, id)
		for _, p := range u.places {
			if p.room != nil {
				delete(p.room.users, u)
			}
		}
		for num := range u.stale {
			if r := h.rooms[num]; r != nil {
				delete(r.users, u)
			}
		}
	}
	for num, r := range h.rooms {
		if len(r.users) == 0 {
			h.bytes -= r.bytes
			delete(h.rooms, num)
			delete(h.byID, r.id)
		}
	}
}
