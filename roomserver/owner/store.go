package owner

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

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

// authorise judges an event by a state: nil, or an *auth.Rejection.
func (st *Step) authorise(ev *event.Event, known authState) error {
	return auth.CheckWith(ev, known.state, st.tip.levels)
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
	if had := in.stored; had != nil && !had.StateUnknown && had.Kind != rooms.Rejected && had.StateBefore == in.before.Root() {
		return st.place(had).with, nil // another of the same would leave this one of no use
	}
	return st.set(ctx, in.before, st.change(added.Event))
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
		Partial: st.begins, Whole: st.whole, Doubt: st.doubt, Named: st.named,
	}
	isNews := func(ev rooms.NewEvent) bool { return ev.Kind == rooms.Live && !ev.Again }
	if slices.ContainsFunc(st.events, isNews) || st.whole != nil && st.whole.Move != nil {
		a.Head = st.tip.head(st.room)
	}
	return a
}

// maxAheadMS is how far the time that an event carries may be ahead of ours to be believed.
const maxAheadMS = 60 * 60 * 1000

// keepTime says whether a live event is timely, and then what follows has to be as late. One that claims to be of the future
// is not, or all that follows would not be.
func (st *Step) keepTime(added *rooms.NewEvent) {
	if added.Kind != rooms.Live {
		return
	}
	ms := added.OriginServerTS
	if added.Untimely = ms < st.tip.latestMS || ms > st.nowMS+maxAheadMS; !added.Untimely {
		st.tip.latestMS = ms
	}
}
