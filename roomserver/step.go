package roomserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// maxPrevEvents is how many events an event may follow.
// https://spec.matrix.org/v1.19/server-server-api/#persistent-data-units-schema
const maxPrevEvents = 20

// A step takes a room from one tip to the next. It reads, and keeps what is to be stored; nothing is
// changed outside of it before it is launched.
type step struct {
	server *Server
	room   rooms.Room
	tip    tip
	nowMS  int64
	source source

	fresh    map[int64]*rooms.Event // what others must not yet see: new events, redacted forms
	events   []rooms.NewEvent
	nodes    []statetree.NewNode
	redacted []*rooms.Event // the new forms

	created   bool          // the room is new
	aliases   []rooms.Alias // made with it
	relist    bool          // the directory entry is out of date
	directory *rooms.Published
}

func (s *Server) newStep(room rooms.Room, t tip, fl *flights) *step {
	fresh := make(map[int64]*rooms.Event, 2)
	return &step{
		server: s, room: room, tip: t, nowMS: s.now().UnixMilli(), fresh: fresh,
		source: source{room: room, fresh: fresh, flights: fl},
	}
}

// A draft is an event that a user of this server wants in the room.
type draft struct {
	typ      string
	stateKey *string
	sender   matrix.UserID
	content  []byte // a JSON object
	redacts  matrix.EventID
	ts       int64 // origin_server_ts in ms; 0: now
	txn      sentAs
}

// add makes an event of a draft and takes it through the same stations that every event of the room
// passes: check, state before, auth, soft-fail, store. Building it is its check.
func (st *step) add(ctx context.Context, d draft) (*rooms.Event, error) {
	known, err := st.authState(ctx, d)
	if err != nil {
		return nil, err
	}
	ev, err := st.build(d, known)
	if err != nil {
		return nil, err
	}
	in := arrival{event: ev, txn: d.txn}
	in.before = st.stateBefore()
	if in.refused = st.authorise(ev, known); in.refused != nil {
		// Nothing of our own is stored rejected: its sender is told.
		return nil, forbidden(in.refused)
	}
	return st.store(ctx, in)
}

// An arrival is an event on its way into the room, with what the stations found out about it.
type arrival struct {
	event   *event.Event
	txn     sentAs
	before  statetree.Tree // the state before it
	refused error          // *auth.Rejection, by the state before it
}

// stateBefore is the state before an event that follows all extremities, as those of our own do: the
// current state. It is also why they need no check against the current state for soft failure.
func (st *step) stateBefore() statetree.Tree { return st.tip.state }

// build makes and signs the event.
func (st *step) build(d draft, known authState) (*event.Event, error) {
	p := event.Proto{
		Type: d.typ, StateKey: d.stateKey, Sender: d.sender, RoomID: st.room.ID, Content: d.content,
		Depth: st.tip.depth + 1, OriginServerTS: d.ts, Redacts: d.redacts,
	}
	if p.OriginServerTS == 0 {
		p.OriginServerTS = st.nowMS
	}
	follows := st.tip.extremities[:min(len(st.tip.extremities), maxPrevEvents)]
	for _, ev := range follows {
		p.PrevEvents = append(p.PrevEvents, ev.ID)
	}
	for _, ev := range known.selected {
		p.AuthEvents = append(p.AuthEvents, ev.ID)
	}
	if st.room.Version.References == event.HashedReferences {
		p.ReferenceHashes = referenceHashes(follows, known.selected)
	}
	return event.Build(st.room.Version, p, st.server.name, st.server.key)
}

func referenceHashes(lists ...[]*rooms.Event) map[matrix.EventID][sha256.Size]byte {
	hashes := make(map[matrix.EventID][sha256.Size]byte)
	for _, list := range lists {
		for _, ev := range list {
			hashes[ev.ID] = ev.ReferenceHash()
		}
	}
	return hashes
}

// authState is the part of a state by which an event is judged.
type authState struct {
	selected []*rooms.Event // the auth events
	create   *rooms.Event   // of the room, whether or not it is selected
}

// authState reads what is needed to judge a draft. https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection
func (st *step) authState(ctx context.Context, d draft) (authState, error) {
	known := authState{create: st.tip.create}
	if d.typ == event.TypeCreate {
		return known, nil
	}
	stateKey := ""
	if d.stateKey != nil {
		stateKey = *d.stateKey
	}
	needed := auth.Needed(st.room.Version, d.typ, stateKey, d.sender, d.content)
	found, err := st.lookup(ctx, needed...)
	if err != nil {
		return known, err
	}
	for _, ev := range found {
		if ev != nil {
			known.selected = append(known.selected, ev)
		}
	}
	return known, nil
}

// state is the auth state as the rules want it.
func (a authState) state(key event.Key) *event.Event {
	if key == createKey {
		return plain(a.create)
	}
	for _, ev := range a.selected {
		if ev.Type == key.Type && *ev.StateKey == key.StateKey {
			return ev.Event
		}
	}
	return nil
}

// authorise judges an event by a state: nil, or an *auth.Rejection.
func (st *step) authorise(ev *event.Event, known authState) error {
	return auth.CheckWith(ev, known.state, st.tip.levels)
}

// forbidden tells the sender why its event was refused.
func forbidden(err error) error {
	var rejection *auth.Rejection
	if errors.As(err, &rejection) {
		return matrix.Errorf(matrix.Forbidden, "%s (authorisation rule %s)", rejection.Reason, rejection.Rule)
	}
	return err
}

// store takes an accepted event into the room.
func (st *step) store(ctx context.Context, in arrival) (*rooms.Event, error) {
	stored := &rooms.Event{
		Event: in.event, Num: st.server.db.NextNumber(), RoomNum: st.room.Num, Kind: rooms.Live,
		StateBefore: in.before.Root(), StateAfter: st.tip.state.Root(),
		TxnDevice: in.txn.device, TxnID: in.txn.id,
	}
	added := rooms.NewEvent{Event: stored, TxnKey: in.txn.key}
	if stored.IsState() {
		if err := st.changeState(ctx, &added); err != nil {
			return nil, err
		}
	}
	if err := st.redact(ctx, &added); err != nil {
		return nil, err
	}
	st.tip.extremities = []*rooms.Event{added.Event}
	st.tip.depth = added.Depth
	st.fresh[added.Num] = added.Event
	st.events = append(st.events, added)
	return added.Event, nil
}

// changeState moves the current state by a state event, and all that is derived from it.
func (st *step) changeState(ctx context.Context, added *rooms.NewEvent) error {
	ev := added.Event
	if ev.Type == event.TypeMember {
		before, _, err := st.member(ctx, ev.Target())
		if err != nil {
			return err
		}
		st.tip.count(before, ev.Membership())
		if m := ev.Membership(); m == event.Invite || m == event.Knock {
			if added.Stripped, err = st.strippedState(ctx, ev); err != nil {
				return err
			}
		}
	}
	change := statetree.Change{Key: st.server.hasher.Key(ev.StateID()), Value: statetree.Value(ev.Num)}
	tree, nodes, err := st.server.trees.Set(ctx, st.tip.state, []statetree.Change{change})
	if err != nil {
		return fmt.Errorf("change the state of %s: %w", st.room.ID, err)
	}
	st.tip.state = tree
	st.nodes = append(st.nodes, nodes...)
	ev.StateAfter = tree.Root()
	st.tip.keep(ev)
	if directoryTypes[ev.Type] {
		st.relist = true
	}
	return nil
}

// lookup returns the state events at these keys, nil where there is none.
func (st *step) lookup(ctx context.Context, keys ...event.Key) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(keys))
	var others []event.Key
	for i, key := range keys {
		switch key {
		case createKey:
			found[i] = st.tip.create
		case powerKey:
			found[i] = st.tip.power
		case joinRulesKey:
			found[i] = st.tip.joinRules
		default:
			others = append(others, key)
		}
	}
	if len(others) == 0 {
		return found, nil
	}
	read, err := st.server.stateEvents(ctx, st.source, st.tip.state, others)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if key != createKey && key != powerKey && key != joinRulesKey {
			found[i], read = read[0], read[1:]
		}
	}
	return found, nil
}

// member returns the membership of a user, empty if there never was one.
func (st *step) member(ctx context.Context, user matrix.UserID) (event.Membership, *rooms.Event, error) {
	found, err := st.lookup(ctx, memberKey(user))
	if err != nil || found[0] == nil {
		return "", nil, err
	}
	return found[0].Membership(), found[0], nil
}

// mustBeJoined refuses who is not in the room.
func (st *step) mustBeJoined(ctx context.Context, user matrix.UserID) error {
	membership, _, err := st.member(ctx, user)
	if err == nil && membership != event.Join {
		return matrix.Errorf(matrix.Forbidden, "%s is not in %s", user, st.room.ID)
	}
	return err
}

// finish derives what follows from the whole step.
func (st *step) finish(ctx context.Context) (err error) {
	if st.relist && st.tip.listed && st.directory == nil {
		st.directory, err = st.directoryEntry(ctx)
	}
	return err
}

// empty says whether there is nothing to store.
func (st *step) empty() bool { return len(st.events) == 0 && st.directory == nil }

// write is what is to be stored.
func (st *step) write(generation int64) storage.Write {
	if len(st.events) == 0 {
		return rooms.Publish{Entry: *st.directory, Generation: generation}
	}
	return rooms.Append{
		Room: st.room, NewRoom: st.created, Generation: generation,
		Events: st.events, Nodes: st.nodes, Head: st.tip.head(st.room),
		Directory: st.directory, Aliases: st.aliases,
	}
}
