package roomserver

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A fetch puts together what some events of a room stand on, before the owner of the room sees any of it:
// from the database, and from other servers. Nothing is taken because it was sent, only because something
// that was wanted leads to it.
type fetch struct {
	server *Server
	room   rooms.Room
	origin matrix.ServerName
	hints  hints
	flying map[matrix.EventID]*rooms.Event // as hints, but on their way to the database: they may fail

	batch    []*event.Event // to be received; what was missing between them is added
	inBatch  map[matrix.EventID]*event.Event
	outliers []*event.Event // fetched to judge others by
	fetched  map[matrix.EventID]*event.Event
	states   []*snapshot

	peers    []matrix.ServerName        // whom to ask, in this order; nil until they are needed
	until    time.Time                  // then nothing more is asked
	spent    map[matrix.ServerName]bool // have told all the events between that they tell
	broken   map[matrix.ServerName]bool // have what is missing in a form that is no event
	requests int
}

// Limits of one fetch.
const (
	maxServers   = 4                // asked for one thing
	maxRequests  = 250              // of all kinds
	fetchTimeout = 90 * time.Second // in which requests are begun
)

func (s *Server) newFetch(room rooms.Room, origin matrix.ServerName, events []*event.Event) *fetch {
	f := &fetch{
		server: s, room: room, origin: origin, until: s.now().Add(fetchTimeout),
		hints: hints{
			events: make(map[matrix.EventID]*rooms.Event), elsewhere: make(map[matrix.EventID]bool),
			looked: make(map[matrix.EventID]bool, 3*len(events)),
		},
		inBatch: make(map[matrix.EventID]*event.Event, len(events)),
		fetched: make(map[matrix.EventID]*event.Event),
		flying:  make(map[matrix.EventID]*rooms.Event),
		spent:   make(map[matrix.ServerName]bool), broken: make(map[matrix.ServerName]bool),
	}
	for _, ev := range events {
		f.add(ev)
	}
	return f
}

func (f *fetch) add(ev *event.Event) {
	if f.inBatch[ev.ID] == nil {
		f.inBatch[ev.ID] = ev
		f.batch = append(f.batch, ev)
	}
}

func (f *fetch) addOutlier(ev *event.Event) {
	if f.fetched[ev.ID] == nil {
		f.fetched[ev.ID] = ev
		f.outliers = append(f.outliers, ev)
	}
}

// complete looks for all that the events stand on, and fetches what is not here. That something cannot be
// had is no error: the events that stand on it will not be accepted.
func (f *fetch) complete(ctx context.Context) error {
	whole, err := f.isWhole(ctx)
	if whole || err != nil {
		return err
	}
	done, err := f.server.inbox.fetchAlone(ctx, f.room.ID)
	if err != nil {
		return err
	}
	defer done()
	f.until = f.server.now().Add(fetchTimeout)
	clear(f.hints.looked) // another may have fetched it meanwhile
	if whole, err = f.isWhole(ctx); whole || err != nil {
		return err
	}
	if err := f.fetchPrevEvents(ctx); err != nil {
		return err
	}
	return f.fetchAuthEvents(ctx)
}

// isWhole says whether all that the events stand on is here.
func (f *fetch) isWhole(ctx context.Context) (bool, error) {
	f.hints.asOf = f.server.flightsOf(f.room).arrived()
	if err := f.look(ctx, namedBy(f.batch)); err != nil {
		return false, err
	}
	missing, _ := f.missingPrevs()
	return len(missing) == 0 && len(f.missingAuth()) == 0, nil
}

// namedBy returns the IDs of events and of their prev events and auth events.
func namedBy(events []*event.Event) []matrix.EventID {
	ids := make([]matrix.EventID, 0, 5*len(events))
	for _, ev := range events {
		ids = append(append(append(ids, ev.ID), ev.PrevEvents...), ev.AuthEvents...)
	}
	return ids
}

// look finds out which events are here.
func (f *fetch) look(ctx context.Context, ids []matrix.EventID) error {
	flights := f.server.flightsOf(f.room)
	var ask []matrix.EventID
	for _, id := range ids {
		if f.hints.looked[id] {
			continue
		}
		if ev := flights.byID(id); ev != nil {
			f.flying[id] = ev
			continue
		}
		f.hints.looked[id] = true
		if ev := f.server.cachedByID(f.room, id); ev != nil {
			f.hints.events[id] = ev
		} else {
			ask = append(ask, id)
		}
	}
	for some := range slices.Chunk(ask, maxEventsPerRead) {
		found, err := rooms.EventsByID(ctx, f.server.db, f.room, some)
		if err != nil {
			return fmt.Errorf("look for events of %s: %w", f.room.ID, err)
		}
		for _, ev := range found {
			f.hints.events[ev.ID] = ev
		}
	}
	return nil
}

// here returns an event that is here, or nearly. What nobody could judge yet is as good as not here.
func (f *fetch) here(id matrix.EventID) *rooms.Event {
	ev := f.flying[id]
	if ev == nil {
		ev = f.hints.events[id]
	}
	if ev != nil && ev.Kind == rooms.Aside {
		return nil
	}
	return ev
}

// isWanted says whether an event of the batch is not here yet with its place.
func (f *fetch) isWanted(ev *event.Event) bool {
	had := f.here(ev.ID)
	return had == nil || hasNoPlace(had)
}

// request counts a request to another server, of which there may be so many, for so long.
func (f *fetch) request() bool {
	f.requests++
	return f.requests <= maxRequests && f.server.now().Before(f.until)
}

// ours says whether an answer holds an event of this room under the ID that was asked for.
func (f *fetch) ours(ev *event.Event) bool {
	return ev != nil && ev.RoomID == f.room.ID && ev.Version == f.room.Version
}

// servers are those that may have what is missing: the one that sent the events first, then those of users
// who are likely to be in the room.
func (f *fetch) servers(ctx context.Context) []matrix.ServerName {
	if f.peers != nil {
		return f.peers
	}
	f.addPeer(f.origin)
	for _, ev := range f.batch {
		f.addPeer(ev.Sender.Server())
	}
	if state, err := f.server.Current(ctx, f.room.ID); err == nil {
		found, err := state.Events(ctx, createKey, powerKey)
		if err == nil && found[0] != nil {
			f.addPeer(found[0].Sender.Server())
		}
		if err == nil && found[1] != nil {
			for user := range canonical.Fields(canonical.Get(found[1].Content, "users")) {
				f.addPeer(matrix.UserID(user).Server())
			}
		}
	}
	joined, err := rooms.JoinedServers(ctx, f.server.db, f.room.Num, maxPeersRead)
	if err == nil { // else those above must do
		for _, server := range joined {
			f.addPeer(server)
		}
	}
	return f.peers
}

// maxPeersRead bounds the servers of a room that are read to find peers.
const maxPeersRead = 100

func (f *fetch) addPeer(server matrix.ServerName) {
	if server != "" && server != f.server.name && len(f.peers) < maxServers && !slices.Contains(f.peers, server) {
		f.peers = append(f.peers, server)
	}
}

// chunks yields the events of the batch, none before what it stands on.
func (f *fetch) chunks(size int) iter.Seq[[]*event.Event] {
	return slices.Chunk(inOrder(f.batch, dependsOn), size)
}

// dependsOn yields the events that one needs to be judged.
func dependsOn(ev *event.Event, yield func(matrix.EventID)) {
	for _, id := range ev.PrevEvents {
		yield(id)
	}
	for _, id := range ev.AuthEvents {
		yield(id)
	}
}

// inOrder returns the events so that none comes before another of them on which it depends, as far as they
// do not depend on each other in a circle; in the order given else.
func inOrder(events []*event.Event, dependsOn func(*event.Event, func(matrix.EventID))) []*event.Event {
	at := make(map[matrix.EventID]int, len(events))
	for i, ev := range events {
		at[ev.ID] = i
	}
	ordered := make([]*event.Event, 0, len(events))
	begun := make([]bool, len(events))
	type frame struct {
		event int
		next  []int
	}
	var stack []frame // not recursion: others decide how deep it goes
	push := func(i int) {
		begun[i] = true
		fr := frame{event: i}
		dependsOn(events[i], func(id matrix.EventID) {
			if j, ok := at[id]; ok {
				fr.next = append(fr.next, j)
			}
		})
		stack = append(stack, fr)
	}
	for i := range events {
		if begun[i] {
			continue
		}
		push(i)
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.next) == 0 {
				ordered = append(ordered, events[top.event])
				stack = stack[:len(stack)-1]
				continue
			}
			j := top.next[0]
			top.next = top.next[1:]
			if !begun[j] {
				push(j)
			}
		}
	}
	return ordered
}

// flightsOf returns what is on its way to the database of a room.
func (s *Server) flightsOf(room rooms.Room) *flights {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.ownerOf(room).flights
}
