package roomserver

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// maxStateEvents bounds the state, and its auth chain, that is believed to be that of a room.
const maxStateEvents = 500_000

// A snapshot is the state before an event as another server tells it.
type snapshot struct {
	at    *event.Event
	state []matrix.EventID
}

// fetchStateAt fetches an event and the state before it, of which all must be had. An answer by which the
// event itself is not allowed is believed only if no server has a better one: events may be rejected, but
// servers may also lie.
// https://spec.matrix.org/v1.19/server-server-api/#retrieving-events
func (f *fetch) fetchStateAt(ctx context.Context, id matrix.EventID) error {
	create, err := f.createEvent(ctx)
	if err != nil {
		return err
	}
	var doubtful *snapshot
	for _, server := range f.servers(ctx) {
		if f.broken[server] {
			continue // it would give the same once more
		}
		at := f.event(ctx, server, id)
		if at == nil {
			continue
		}
		snap, keys, err := f.stateFrom(ctx, server, at)
		if err != nil {
			return err
		}
		if snap == nil || keys[createKey] != create.ID {
			continue
		}
		allowed, err := f.allows(ctx, at, keys)
		if err != nil {
			return err
		}
		if allowed {
			f.states = append(f.states, snap)
			return nil
		}
		if doubtful == nil {
			doubtful = snap
		}
	}
	if doubtful != nil {
		f.states = append(f.states, doubtful)
	}
	return nil
}

func (f *fetch) createEvent(ctx context.Context) (*rooms.Event, error) {
	state, err := f.server.Current(ctx, f.room.ID)
	if err != nil {
		return nil, err
	}
	create, err := state.Event(ctx, createKey)
	if err == nil && create == nil {
		err = fmt.Errorf("room %s has no create event", f.room.ID)
	}
	return create, err
}

// event returns an event that is here, or that a server has.
func (f *fetch) event(ctx context.Context, server matrix.ServerName, id matrix.EventID) *event.Event {
	if had := f.here(id); had != nil {
		return had.Event
	}
	for _, known := range []map[matrix.EventID]*event.Event{f.inBatch, f.fetched} {
		if ev := known[id]; ev != nil {
			return ev
		}
	}
	if ctx.Err() != nil || !f.request() {
		return nil
	}
	ev, err := f.server.remote.Event(ctx, server, f.room, id)
	if err != nil || !f.ours(ev) || ev.ID != id {
		return nil
	}
	return ev
}

// stateFrom asks a server for the state before an event; nil if it cannot be had whole.
func (f *fetch) stateFrom(ctx context.Context, server matrix.ServerName, at *event.Event) (*snapshot, map[event.Key]matrix.EventID, error) {
	if ctx.Err() != nil || !f.request() {
		return nil, nil, nil
	}
	ids, err := f.server.remote.StateIDs(ctx, server, f.room, at.ID)
	if err != nil || len(ids.State) == 0 || len(ids.State)+len(ids.Auth) > maxStateEvents {
		return nil, nil, nil
	}
	keys, missing, err := f.stateKeys(ctx, ids.State)
	if err != nil {
		return nil, nil, err
	}
	if len(missing) > 0 {
		// What is missing of the auth chain comes with it, or is fetched when it is known to be needed.
		f.fetchStateEvents(ctx, server, at.ID, missing)
		for _, id := range missing {
			ev := f.fetched[id]
			if ev == nil || !ev.IsState() || keys[ev.StateID()] != "" {
				return nil, nil, nil
			}
			keys[ev.StateID()] = id
		}
	}
	if len(keys) != len(ids.State) {
		return nil, nil, nil // two for one place
	}
	return &snapshot{at: at, state: ids.State}, keys, nil
}

// stateKeys returns the places of those events that are here, and the others.
func (f *fetch) stateKeys(ctx context.Context, ids []matrix.EventID) (map[event.Key]matrix.EventID, []matrix.EventID, error) {
	rows, err := f.server.stateRows(ctx, f.room, ids)
	if err != nil {
		return nil, nil, err
	}
	keys := make(map[event.Key]matrix.EventID, len(ids))
	var missing []matrix.EventID
	for _, id := range ids {
		if row, ok := rows[id]; ok {
			keys[row.Key] = id
		} else {
			missing = append(missing, id)
		}
	}
	return keys, missing, nil
}

// stateRows returns what is stored of the events of a state.
func (s *Server) stateRows(ctx context.Context, room rooms.Room, ids []matrix.EventID) (map[matrix.EventID]rooms.StateRow, error) {
	rows := make(map[matrix.EventID]rooms.StateRow, len(ids))
	for some := range slices.Chunk(ids, maxEventsPerRead) {
		found, err := rooms.StateRowsByID(ctx, s.db, room.Num, some)
		if err != nil {
			return nil, fmt.Errorf("look for the state of %s: %w", room.ID, err)
		}
		for _, row := range found {
			rows[row.ID] = row
		}
	}
	return rows, nil
}

// fetchStateEvents fetches some events of a state: each by itself if they are few, and else all of the state.
func (f *fetch) fetchStateEvents(ctx context.Context, server matrix.ServerName, at matrix.EventID, missing []matrix.EventID) {
	if len(missing) <= maxSingleAsked {
		for _, id := range missing {
			if ev := f.event(ctx, server, id); ev != nil {
				f.addOutlier(ev)
			}
		}
		return
	}
	if ctx.Err() != nil || !f.request() {
		return
	}
	answer, err := f.server.remote.State(ctx, server, f.room, at)
	if err != nil || len(answer.State)+len(answer.Auth) > maxStateEvents {
		return
	}
	f.takeState(missing, answer)
}

// takeState takes from a state the events that are wanted, and those that authorise these.
func (f *fetch) takeState(wanted []matrix.EventID, answer StateEvents) {
	isWanted := make(map[matrix.EventID]bool, len(wanted))
	for _, id := range wanted {
		isWanted[id] = true
	}
	for _, ev := range answer.State {
		if f.ours(ev) && isWanted[ev.ID] {
			f.addOutlier(ev)
		}
	}
	f.takeAuth(f.missingAuth(), slices.Concat(answer.Auth, answer.State))
}

// allows says whether an event is allowed by a state.
func (f *fetch) allows(ctx context.Context, ev *event.Event, keys map[event.Key]matrix.EventID) (bool, error) {
	known := make(map[event.Key]*event.Event)
	for _, key := range append(neededBy(ev), createKey) {
		id := keys[key]
		if id == "" {
			continue
		}
		if err := f.look(ctx, []matrix.EventID{id}); err != nil {
			return false, err
		}
		if had := f.here(id); had != nil {
			known[key] = had.Event
		} else {
			known[key] = f.fetched[id]
		}
	}
	return auth.Check(ev, func(key event.Key) *event.Event { return known[key] }) == nil, nil
}

// storeFetched lets the owner store what was fetched for the sake of other events: outliers, each after
// those that authorise it, and then the events of which the state before is known.
func (s *Server) storeFetched(ctx context.Context, f *fetch) error {
	f.addOutliersOfBatch()
	for some := range slices.Chunk(authOrder(f.outliers), maxStepEvents) {
		err := s.doFor(ctx, f, func(ctx context.Context, st *step) error {
			for _, ev := range some {
				if err := st.addOutlier(ctx, ev); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, snap := range f.states {
		state, err := s.statePart(ctx, f.room, snap.state)
		if err != nil {
			return err
		}
		if state.lacks > 0 {
			continue // a state of which some is missing is none
		}
		err = s.doFor(ctx, f, func(ctx context.Context, st *step) error {
			return st.addAt(ctx, snap.at, state)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addOutliersOfBatch makes those events of the batch outliers, too, that authorise outliers: these are stored before
// the batch, and only behind their auth events.
func (f *fetch) addOutliersOfBatch() {
	for i := 0; i < len(f.outliers); i++ { // it grows
		for _, id := range f.outliers[i].AuthEvents {
			if ev := f.inBatch[id]; ev != nil && f.here(id) == nil {
				f.addOutlier(ev)
			}
		}
	}
}

// addOutlier stores an event that only authorises others, unless it is known or its own auth events are not.
func (st *step) addOutlier(ctx context.Context, ev *event.Event) error {
	found, err := st.find(ctx, ev.ID)
	if err != nil || found[0] != nil && found[0].Kind != rooms.Aside {
		return err
	}
	in := arrival{event: ev, stored: found[0], kind: rooms.Outlier, unknown: true}
	if in.auth, err = st.authEvents(ctx, ev); err != nil {
		return ignoreLacking(err)
	}
	if st.check(in) != nil {
		in.kind = rooms.Rejected
	}
	return st.storeOutlier(ctx, in)
}

// storeOutlier stores an event that is in no timeline. A rejected one never will be, so that what lacked it lacks what
// is missing before it.
func (st *step) storeOutlier(ctx context.Context, in arrival) error {
	if in.kind == rooms.Rejected {
		if err := st.findGaps(ctx, &in, true); err != nil {
			return err
		}
	}
	_, err := st.store(ctx, in)
	return err
}

// A statePart is a state as it differs from one that is stored.
type statePart struct {
	base    statetree.Tree
	changes []statetree.Change
	lacks   int // events of it that are not stored
}

// statePart looks how a state that is told by event IDs differs from the current state. Events that were
// rejected are no part of it.
func (s *Server) statePart(ctx context.Context, room rooms.Room, ids []matrix.EventID) (statePart, error) {
	rows, err := s.stateRows(ctx, room, ids)
	if err != nil {
		return statePart{}, err
	}
	want := make(map[statetree.Key]statetree.Value, len(rows))
	for _, row := range rows {
		if row.Accepted {
			want[s.hasher.Key(row.Key)] = statetree.Value(row.Num)
		}
	}
	current, err := s.Current(ctx, room.ID)
	if err != nil {
		return statePart{}, err
	}
	part := statePart{base: current.tree, lacks: len(ids) - len(rows)}
	if hole, err := s.trees.HoleOf(ctx, current.tree); err != nil || hole != 0 {
		part.base = statetree.Tree{}
		for key, now := range want {
			part.changes = append(part.changes, statetree.Change{Key: key, Value: now})
		}
		return part, err
	}
	err = s.trees.Walk(ctx, current.tree, statetree.All, func(key statetree.Key, had statetree.Value) error {
		if now := want[key]; now != had {
			part.changes = append(part.changes, statetree.Change{Key: key, Value: now})
		}
		delete(want, key)
		return nil
	})
	for key, now := range want {
		part.changes = append(part.changes, statetree.Change{Key: key, Value: now})
	}
	return part, err
}

// addAt stores an event that is in no timeline, with the state before it, for others to follow it.
func (st *step) addAt(ctx context.Context, ev *event.Event, state statePart) error {
	in, err := st.begin(ctx, ev)
	if err != nil || in.event == nil || in.stored != nil && !in.stored.StateUnknown {
		return ignoreLacking(err)
	}
	if in.stored == nil || in.stored.Kind == rooms.Aside {
		in.kind = rooms.Outlier
	} else {
		in.kind = in.stored.Kind
	}
	if in.before, err = st.set(ctx, state.base, state.changes...); err != nil {
		return err
	}
	if _, err = st.judge(ctx, &in); err != nil {
		return err
	}
	return st.storeOutlier(ctx, in)
}

// ignoreLacking: what cannot be judged is not stored, and that is all.
func ignoreLacking(err error) error {
	if outcomeOf(err) == Missing {
		return nil
	}
	return err
}
