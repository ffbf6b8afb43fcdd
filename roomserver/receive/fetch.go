package receive

import (
	"context"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A fetch puts together what some events of a room stand on, before the owner of the room sees any of it:
// from the database, and from other servers. Nothing is taken because it was sent, only because something
// that was wanted leads to it.
type fetch struct {
	*owner.Hints
	receiver *Receiver
	room     rooms.Room
	origin   matrix.ServerName

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
	FetchTimeout = 90 * time.Second // in which requests are begun
)

func (s *Receiver) newFetch(room rooms.Room, origin matrix.ServerName, events []*event.Event) *fetch {
	f := &fetch{
		receiver: s, room: room, origin: origin, until: s.now().Add(FetchTimeout),
		Hints:   s.owners.NewHints(room, len(events)),
		inBatch: make(map[matrix.EventID]*event.Event, len(events)),
		fetched: make(map[matrix.EventID]*event.Event),
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
	done, err := f.receiver.inbox.fetchAlone(ctx, f.room.ID)
	if err != nil {
		return err
	}
	defer done()
	f.until = f.receiver.now().Add(FetchTimeout)
	f.LookAgain() // another may have fetched it meanwhile
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
	f.Begin()
	if err := f.Look(ctx, namedBy(f.batch)); err != nil {
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

// isWanted says whether an event of the batch is not here yet with its place.
func (f *fetch) isWanted(ev *event.Event) bool {
	had := f.Here(ev.ID)
	return had == nil || had.HasNoPlace()
}

// request counts a request to another server, of which there may be so many, for so long.
func (f *fetch) request() bool {
	f.requests++
	return f.requests <= maxRequests && f.receiver.now().Before(f.until)
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
	if state, err := f.receiver.owners.Current(ctx, f.room.ID); err == nil {
		found, err := state.Events(ctx, event.CreateKey, event.PowerLevelsKey)
		if err == nil && found[0] != nil {
			f.addPeer(found[0].Sender.Server())
		}
		if err == nil && found[1] != nil {
			for user := range canonical.Fields(canonical.Get(found[1].Content, "users")) {
				f.addPeer(matrix.UserID(user).Server())
			}
		}
	}
	joined, err := rooms.JoinedServers(ctx, f.receiver.db, f.room.Num, maxPeersRead)
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
	if server != "" && server != f.receiver.name && len(f.peers) < maxServers && !slices.Contains(f.peers, server) {
		f.peers = append(f.peers, server)
	}
}
