package receive

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// Limits of the search for missing auth events.
const (
	maxAuthRounds  = 8
	maxAuthEvents  = 20_000 // fetched for one delivery, states not counted
	maxSingleAsked = 20     // asked for one by one
)

// fetchAuthEvents fetches the auth events that are not here, and theirs, down to what is here.
// https://spec.matrix.org/v1.19/server-server-api/#retrieving-event-authorisation-information
func (f *fetch) fetchAuthEvents(ctx context.Context) error {
	began := len(f.outliers)
	for range maxAuthRounds {
		if err := f.Look(ctx, f.missingAuth()); err != nil {
			return err
		}
		missing := f.missingAuth()
		if len(missing) == 0 || len(f.outliers)-began > maxAuthEvents {
			return nil
		}
		if err := f.LookElsewhere(ctx, missing); err != nil {
			return err
		}
		if missing = f.missingAuth(); len(missing) == 0 || !f.askForAuth(ctx, missing) {
			return nil
		}
	}
	return nil
}

// missingAuth returns the auth events of all that is wanted that are not here.
func (f *fetch) missingAuth() (missing []matrix.EventID) {
	seen := make(map[matrix.EventID]bool)
	add := func(ev *event.Event) {
		for _, id := range ev.AuthEvents {
			here := seen[id] || f.inBatch[id] != nil || f.fetched[id] != nil || f.Here(id) != nil || f.IsElsewhere(id)
			if !here {
				missing = append(missing, id)
			}
			seen[id] = true
		}
	}
	for _, ev := range f.batch {
		if f.isWanted(ev) {
			add(ev)
		}
	}
	for _, ev := range f.outliers {
		add(ev)
	}
	for _, s := range f.states {
		add(s.at)
	}
	return missing
}

// askForAuth asks servers for auth events until one has any.
func (f *fetch) askForAuth(ctx context.Context, missing []matrix.EventID) (found bool) {
	of := f.citing(missing)
	for _, server := range f.servers(ctx) {
		if ctx.Err() != nil || !f.request() {
			return false
		}
		chain, err := f.receiver.remote.EventAuth(ctx, server, f.room, of)
		if err == nil && f.takeAuth(missing, chain) || f.askForEach(ctx, server, missing) {
			return true
		}
	}
	return false
}

// askForEach asks a server for auth events one by one, if they are few.
func (f *fetch) askForEach(ctx context.Context, server matrix.ServerName, missing []matrix.EventID) (found bool) {
	if len(missing) > maxSingleAsked {
		return false
	}
	for _, id := range missing {
		if ctx.Err() != nil || !f.request() {
			return found
		}
		ev, err := f.receiver.remote.Event(ctx, server, f.room, id)
		if err == nil && ev != nil {
			found = f.takeAuth([]matrix.EventID{id}, []*event.Event{ev}) || found
		}
	}
	return found
}

// citing returns an event whose auth chain has the first of the missing.
func (f *fetch) citing(missing []matrix.EventID) matrix.EventID {
	for _, events := range [][]*event.Event{f.batch, f.outliers} {
		for _, ev := range events {
			if slices.Contains(ev.AuthEvents, missing[0]) {
				return ev.ID
			}
		}
	}
	for _, s := range f.states {
		if slices.Contains(s.at.AuthEvents, missing[0]) {
			return s.at.ID
		}
	}
	return missing[0]
}

// takeAuth takes from an answer the events that are wanted, and those that authorise these.
func (f *fetch) takeAuth(wanted []matrix.EventID, answer []*event.Event) (found bool) {
	byID := make(map[matrix.EventID]*event.Event)
	for _, ev := range answer[:min(len(answer), maxAuthEvents)] {
		if ev != nil && byID[ev.ID] == nil {
			byID[ev.ID] = ev
		}
	}
	for todo := slices.Clone(wanted); len(todo) > 0 && len(byID) > 0; {
		id := todo[0]
		todo = todo[1:]
		ev := byID[id]
		if ev == nil {
			continue
		}
		delete(byID, id)
		switch {
		case f.ours(ev) && f.inBatch[id] == nil && f.Here(id) == nil:
			f.addOutlier(ev)
			todo = append(todo, ev.AuthEvents...)
			found = true
		case ev.RoomID != f.room.ID && f.room.Version.EventIDs != event.ChosenEventIDs:
			f.Elsewhere(id)
			found = true
		}
	}
	return found
}
