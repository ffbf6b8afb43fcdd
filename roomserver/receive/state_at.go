package receive

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
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
		if snap == nil || keys[event.CreateKey] != create.ID {
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
	state, err := f.receiver.owners.Current(ctx, f.room.ID)
	if err != nil {
		return nil, err
	}
	create, err := state.Event(ctx, event.CreateKey)
	if err == nil && create == nil {
		err = fmt.Errorf("room %s has no create event", f.room.ID)
	}
	return create, err
}

// event returns an event that is here, or that a server has.
func (f *fetch) event(ctx context.Context, server matrix.ServerName, id matrix.EventID) *event.Event {
	if had := f.Here(id); had != nil {
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
	ev, err := f.receiver.remote.Event(ctx, server, f.room, id)
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
	ids, err := f.receiver.remote.StateIDs(ctx, server, f.room, at.ID)
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
	rows, err := f.receiver.owners.StateRows(ctx, f.room, ids)
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
	answer, err := f.receiver.remote.State(ctx, server, f.room, at)
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
	for _, key := range append(owner.NeededBy(ev), event.CreateKey) {
		id := keys[key]
		if id == "" {
			continue
		}
		if err := f.Look(ctx, []matrix.EventID{id}); err != nil {
			return false, err
		}
		if had := f.Here(id); had != nil {
			known[key] = had.Event
		} else {
			known[key] = f.fetched[id]
		}
	}
	return auth.Check(ev, func(key event.Key) *event.Event { return known[key] }) == nil, nil
}

// storeFetched lets the owner store what was fetched for the sake of other events: outliers, each after
// those that authorise it, and then the events of which the state before is known.
func (s *Receiver) storeFetched(ctx context.Context, f *fetch) error {
	f.addOutliersOfBatch()
	for some := range slices.Chunk(event.AuthOrder(f.outliers), owner.MaxStepEvents) {
		err := s.owners.DoWith(ctx, f.Hints, func(ctx context.Context, st *owner.Step) error { return st.AddOutliers(ctx, some) })
		if err != nil {
			return err
		}
	}
	for _, snap := range f.states {
		state, err := s.owners.StatePart(ctx, f.room, snap.state)
		if err != nil {
			return err
		}
		if !state.IsWhole() {
			continue
		}
		err = s.owners.DoWith(ctx, f.Hints, func(ctx context.Context, st *owner.Step) error { return st.AddAt(ctx, snap.at, state) })
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
			if ev := f.inBatch[id]; ev != nil && f.Here(id) == nil {
				f.addOutlier(ev)
			}
		}
	}
}
