package owner

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A Step takes a room from one tip to the next. It reads, and keeps what is to be stored; nothing is
// changed outside of it before it is launched.
type Step struct {
	owners *Owners
	room   rooms.Room
	tip    tip
	nowMS  int64
	source source

	fresh    map[int64]placed // what others must not yet see: new events, redacted forms
	events   []rooms.NewEvent
	nodes    []statetree.NewNode
	redacted []*rooms.Event                      // the new forms
	graph    *authGraph                          // nil if the room is new
	branches branches                            // the current state is not resolved yet
	looks    int                                 // times it was resolved to judge an event by it
	merges   int                                 // and times a branch was resolved into it for that,
	merged   map[statetree.NodeID]statetree.Tree // with this outcome, by the branch: of the room as it stands now
	hints    hints                               // events that are likely to be wanted
	ofOthers bool                                // it took events of other servers
	arrivals int64                               // flights.arrivals, as it set it when it was launched; 0 if it did not
	gaps     gapsSeen

	footing *footing       // what events of our own follow; nil: the forward extremities
	unseen  []*event.Event // events of our own that the policy server has not seen
	asked   policy.Server  // whose signature they want

	settled []*rooms.Event     // that were set aside, and have found their place
	asides  []rooms.Membership // what has come of that

	byID map[matrix.EventID]*rooms.Event // those not committed yet; nil until they are looked up

	created   bool                // the room is new
	aliases   []rooms.Alias       // made with it
	begins    *rooms.PartialJoin  // the room is partial from now on
	whole     *rooms.EndOfPartial // or no longer
	named     *rooms.Doubt        // about nodes that the step names; nil if there was none
	relist    bool                // the directory entry is out of date
	directory *rooms.Published
}

func (s *Owners) newStep(room rooms.Room, t tip, fl *flights) *Step {
	fresh := make(map[int64]placed, 2)
	return &Step{
		owners: s, room: room, tip: t, nowMS: s.now().UnixMilli(), fresh: fresh,
		source: source{fresh: fresh, flights: fl},
	}
}

// A Draft is an event that a user of this server wants in the room.
type Draft struct {
	Type     string
	StateKey *string
	Sender   matrix.UserID
	Content  []byte // a JSON object
	Redacts  matrix.EventID
	TS       int64 // origin_server_ts in ms; 0: now
	Txn      SentAs
	Vouched  bool // of a join: that the user had no membership, if none is known, another server has said
}

// Add makes an event of a draft and takes it through the same stations that every event of the room
// passes: check, state before, auth, soft-fail, store. Building it is its check, and the current state is
// the state before it, so that nothing is left to soft-fail; but where the policy server had to be asked first.
func (st *Step) Add(ctx context.Context, d Draft) (*rooms.Event, error) {
	if err := st.mustLive(); err != nil {
		return nil, err
	}
	if err := st.resolveCurrent(ctx); err != nil {
		return nil, err
	}
	follows := st.follows()
	before, err := st.stateAfterAll(ctx, follows)
	if err != nil {
		return nil, err
	}
	known, err := st.authState(ctx, before, d)
	if err != nil {
		return nil, err
	}
	ev, err := st.build(d, follows, known)
	if err != nil {
		return nil, err
	}
	if err := st.authorise(ev, known); err != nil {
		// Nothing of our own is stored rejected: its sender is told.
		return nil, Forbidden(err)
	}
	if ev, err = st.recommend(ctx, ev); err != nil {
		return nil, err
	}
	in := arrival{event: ev, kind: rooms.Live, txn: d.Txn, before: before, auth: known.selected}
	if err := st.checkLate(ctx, in); err != nil {
		return nil, err
	}
	added, err := st.store(ctx, in)
	if err == nil && st.footing != nil {
		st.footing.advance(st.fresh[added.Num])
	}
	return added, err
}

// An arrival is an event on its way into the room, with what the stations found out about it.
type arrival struct {
	event   *event.Event
	stored  *rooms.Event // as it was stored before, without its place; nil if it is new
	kind    rooms.Kind
	order   rooms.Order // of a backfilled event
	txn     SentAs
	auth    []*rooms.Event   // its auth events
	lacks   []matrix.EventID // what is missing before it
	fills   bool             // other events lack this one
	late    bool             // and one of these is in the timeline
	unknown bool             // the state before it is not known
	before  statetree.Tree   // the state before it
}

// build makes and signs the event.
func (st *Step) build(d Draft, follows []placed, known authState) (*event.Event, error) {
	p := event.Proto{
		Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, RoomID: st.room.ID, Content: d.Content,
		Depth: 1, OriginServerTS: d.TS, Redacts: d.Redacts,
	}
	if p.OriginServerTS == 0 {
		p.OriginServerTS = st.nowMS
	}
	var cited []*rooms.Event
	for _, ev := range follows {
		p.PrevEvents = append(p.PrevEvents, ev.ID)
		// Others may have taken depth as far as it goes. It means nothing to us.
		p.Depth = min(max(p.Depth, ev.Depth+1), st.room.Version.MaxDepth)
		cited = append(cited, ev.Event)
	}
	for _, ev := range known.selected {
		p.AuthEvents = append(p.AuthEvents, ev.ID)
	}
	if st.room.Version.References == event.HashedReferences {
		p.ReferenceHashes = referenceHashes(cited, known.selected)
	}
	return event.Build(st.room.Version, p, st.owners.name, st.owners.key)
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
func (st *Step) authState(ctx context.Context, in statetree.Tree, d Draft) (authState, error) {
	known := authState{create: st.tip.create}
	if d.Type == event.TypeCreate {
		return known, nil
	}
	stateKey := ""
	if d.StateKey != nil {
		stateKey = *d.StateKey
	}
	keys := auth.Needed(st.room.Version, d.Type, stateKey, d.Sender, d.Content)
	found, err := st.lookupIn(ctx, in, keys)
	if d.Vouched && errors.Is(err, statetree.ErrUnknown) {
		found, err = st.knownIn(ctx, in, keys)
	}
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
	if key == event.CreateKey {
		return a.create.Plain()
	}
	for _, ev := range a.selected {
		if ev.Type == key.Type && *ev.StateKey == key.StateKey {
			return ev.Event
		}
	}
	return nil
}

// authorise judges an event by a state: nil, or an *auth.Rejection.
func (st *Step) authorise(ev *event.Event, known authState) error {
	return auth.CheckWith(ev, known.state, st.tip.levels)
}

// Forbidden tells the sender why its event was refused.
func Forbidden(err error) error {
	var rejection *auth.Rejection
	if errors.As(err, &rejection) {
		return matrix.Errorf(matrix.Forbidden, "%s (authorisation rule %s)", rejection.Reason, rejection.Rule)
	}
	return err
}

// store takes an event into the room as what the stations before found it to be.
func (st *Step) store(ctx context.Context, in arrival) (*rooms.Event, error) {
	added := st.newEvent(in)
	with, err := st.stateWith(ctx, &added, in)
	if err != nil {
		return nil, err
	}
	if !in.unknown {
		added.StateBefore, added.StateWith = in.before.Root(), with.Root()
	}
	now := placed{Event: added.Event, before: in.before, with: with, accepted: added.Accepted, auth: added.Auth, lacks: in.lacks, late: in.late}
	if in.kind == rooms.Live {
		if err := st.moveCurrent(ctx, &added, now); err != nil {
			return nil, err
		}
	}
	if err := st.redact(ctx, &added, in); err != nil {
		return nil, err
	}
	now.Event = added.Event
	if err := st.moveExtremities(ctx, now, &added); err != nil {
		return nil, err
	}
	if err := st.graph.append(st.owners.cache.Hasher, &added); err != nil {
		return nil, err
	}
	if in.stored != nil && in.stored.Kind == rooms.Aside && !in.unknown {
		st.settled = append(st.settled, added.Event)
	}
	st.fresh[added.Num] = now
	if st.byID != nil {
		st.byID[added.ID] = added.Event
	}
	st.events = append(st.events, added)
	return added.Event, nil
}

// newEvent is what is stored of an arrival itself.
func (st *Step) newEvent(in arrival) rooms.NewEvent {
	ev := &rooms.Event{
		Event: in.event, RoomNum: st.room.Num, Kind: in.kind, Order: in.order,
		StateUnknown: in.unknown, StateAfter: st.tip.state.Root(), AfterGap: in.kind == rooms.Live && len(in.lacks) > 0,
		TxnDevice: in.txn.Device, TxnID: in.txn.ID,
	}
	added := rooms.NewEvent{Event: ev, TxnKey: in.txn.Key, Known: in.stored != nil}
	if added.Known {
		ev.Event, ev.Num, ev.RedactedBy = in.stored.Event, in.stored.Num, in.stored.RedactedBy
	} else {
		ev.Num = st.owners.db.NextNumber()
	}
	if ev.IsState() && in.kind != rooms.Rejected {
		added.Accepted = true
		for _, a := range in.auth {
			added.Auth = append(added.Auth, a.Num)
		}
	}
	if st.tip.partial != nil && !in.unknown && in.kind != rooms.Outlier && in.kind != rooms.Backfilled {
		added.Listed = st.enlist(ev.Num)
	}
	added.Lacks, added.Fills, added.Late = in.lacks, in.fills, in.late
	st.tip.gaps = st.tip.gaps || len(in.lacks) > 0
	st.keepTime(&added)
	return added
}

// stateWith is the state after an event, for those that follow it.
func (st *Step) stateWith(ctx context.Context, added *rooms.NewEvent, in arrival) (statetree.Tree, error) {
	if !added.Accepted || in.unknown {
		return in.before, nil
	}
	return st.set(ctx, in.before, st.change(added.Event))
}

// change is what a state event changes.
func (st *Step) change(ev *rooms.Event) statetree.Change {
	return statetree.Change{Key: st.owners.cache.Hasher.Key(ev.StateID()), Value: statetree.Value(ev.Num)}
}

// set makes changes to a state, and keeps the new nodes to be stored.
func (st *Step) set(ctx context.Context, tree statetree.Tree, changes ...statetree.Change) (statetree.Tree, error) {
	tree, nodes, err := st.owners.cache.Trees.Set(ctx, tree, changes)
	if err != nil {
		return tree, fmt.Errorf("change the state of %s: %w", st.room.ID, err)
	}
	st.nodes = append(st.nodes, nodes...)
	return tree, nil
}

// lookupIn returns the events of a state at these keys, nil where there is none.
func (st *Step) lookupIn(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	if tree.Root() == st.tip.state.Root() {
		return st.Lookup(ctx, keys...)
	}
	return st.stateEvents(ctx, tree, keys)
}

// Lookup returns the state events at these keys, nil where there is none.
func (st *Step) Lookup(ctx context.Context, keys ...event.Key) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(keys))
	var others []event.Key
	for i, key := range keys {
		switch key {
		case event.CreateKey:
			found[i] = st.tip.create
		case event.PowerLevelsKey:
			found[i] = st.tip.power
		case event.JoinRulesKey:
			found[i] = st.tip.joinRules
		default:
			others = append(others, key)
		}
	}
	if len(others) == 0 {
		return found, nil
	}
	read, err := st.stateEvents(ctx, st.tip.state, others)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if key != event.CreateKey && key != event.PowerLevelsKey && key != event.JoinRulesKey {
			found[i], read = read[0], read[1:]
		}
	}
	return found, nil
}

// Member returns the membership of a user, empty if there never was one.
func (st *Step) Member(ctx context.Context, user matrix.UserID) (event.Membership, *rooms.Event, error) {
	found, err := st.Lookup(ctx, event.MemberKey(user))
	if err != nil || found[0] == nil {
		return "", nil, err
	}
	return found[0].Membership(), found[0], nil
}

// MustBeJoined refuses who is not in the room.
func (st *Step) MustBeJoined(ctx context.Context, user matrix.UserID) error {
	membership, _, err := st.Member(ctx, user)
	if err == nil && membership != event.Join {
		return matrix.Errorf(matrix.Forbidden, "%s is not in %s", user, st.room.ID)
	}
	return err
}

// finish derives what follows from the whole step.
func (st *Step) finish(ctx context.Context) (err error) {
	if err := st.resolveCurrent(ctx); err != nil {
		return err
	}
	if err := st.settleAsides(ctx); err != nil {
		return err
	}
	if st.relist && st.tip.listed && st.directory == nil {
		st.directory, err = st.directoryEntry(ctx)
	}
	return err
}

// empty says whether there is nothing to store.
func (st *Step) empty() bool { return len(st.events) == 0 && st.directory == nil && st.whole == nil }

// write is what is to be stored.
func (st *Step) write(generation int64) storage.Write {
	if len(st.events) == 0 && st.whole == nil {
		return rooms.Publish{Entry: *st.directory, Generation: generation}
	}
	a := rooms.Append{
		Room: st.room, NewRoom: st.created, Generation: generation,
		Events: st.events, Asides: st.asides, Nodes: st.nodes, Directory: st.directory, Aliases: st.aliases,
		Partial: st.begins, Whole: st.whole, Named: st.named,
	}
	isNews := func(ev rooms.NewEvent) bool { return ev.Kind == rooms.Live && !ev.Again }
	if slices.ContainsFunc(st.events, isNews) || st.whole != nil && st.whole.Move != nil {
		a.Head = st.tip.head(st.room)
	}
	return a
}

// SentAs is what is stored of a transaction with its event.
type SentAs struct {
	Key    int64 // 0: none
	Device matrix.DeviceID
	ID     string
}
