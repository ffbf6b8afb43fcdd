package clientapi

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// context tells what happened around an event.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidcontexteventid
func (a *API) context(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	v, seen, err := a.find(ctx, c)
	if err != nil {
		return nil, err
	}
	sight, err := v.Standing(ctx)
	if err != nil {
		return nil, err
	}
	around := surroundings{api: a, eye: eye{v, sight}, event: seen}
	if around.filter, err = roomFilter(c); err != nil {
		return nil, err
	}
	limit, err := pageLimit(c, around.filter)
	if err != nil {
		return nil, err
	}
	if err := around.read(ctx, limit); err != nil {
		return nil, err
	}
	out, err := around.append(ctx, nil)
	return (*httpapi.Raw)(&out), err
}

// surroundings is an event with what is around it.
type surroundings struct {
	eye
	api           *API
	filter        *view.RoomEventFilter
	event         view.Seen
	before, after view.Page
	state         []*rooms.Event // after the last of the events
}

// read fills in the pages on both sides, which have limit events together, and the state.
func (s *surroundings) read(ctx context.Context, limit int) (err error) {
	s.before = view.Page{End: view.Before(s.event.Event)}
	s.after = view.Page{End: view.After(s.event.Event)}
	if s.filter.WantsRoom(s.Room.ID) {
		back := view.PageQuery{From: s.before.End, Backward: true, Limit: limit / 2, Filter: s.filter}
		if s.before, err = s.Messages(ctx, s.api.db, back.Within(s.Sight)); err != nil {
			return err
		}
		forth := view.PageQuery{From: s.after.End, Limit: limit - limit/2, Filter: s.filter}
		if s.after, err = s.Messages(ctx, s.api.db, forth.Within(s.Sight)); err != nil {
			return err
		}
	}
	return s.readState(ctx)
}

// readState reads the state after the last event that is told. With lazy loading, it has no members but the senders.
func (s *surroundings) readState(ctx context.Context) (err error) {
	last := s.event.Event
	if n := len(s.after.Events); n > 0 {
		last = s.after.Events[n-1].Event
	}
	before := s.api.rooms.StateAt(s.Room, last.StateBefore)
	if s.filter.LazyLoadMembers {
		s.state, err = before.NonMembers(ctx)
	} else {
		s.state, err = before.All(ctx)
	}
	if err != nil {
		return err
	}
	if s.filter.LazyLoadMembers {
		members, err := before.Cited(ctx, s.events(), s.senderKeys()...)
		if err != nil {
			return err
		}
		s.state = append(s.state, members...)
	}
	s.state = slices.DeleteFunc(s.state, func(e *rooms.Event) bool {
		return e == nil || last.IsState() && e.StateID() == last.StateID()
	})
	if last.IsState() {
		s.state = append(s.state, last)
	}
	s.state = slices.DeleteFunc(s.state, func(e *rooms.Event) bool { return !s.filter.WantsEvent(e.Event) })
	return nil
}

// events are all that are told.
func (s *surroundings) events() []*rooms.Event {
	var all []*rooms.Event
	for _, e := range slices.Concat(s.before.Events, []view.Seen{s.event}, s.after.Events) {
		all = append(all, e.Event)
	}
	return all
}

// senderKeys are the places in the state of those who sent the events.
func (s *surroundings) senderKeys() []event.Key {
	seen := map[matrix.UserID]bool{}
	var keys []event.Key
	for _, e := range s.events() {
		if !seen[e.Sender] {
			seen[e.Sender] = true
			keys = append(keys, memberKey(e.Sender))
		}
	}
	return keys
}

// append writes the answer.
func (s *surroundings) append(ctx context.Context, dst []byte) ([]byte, error) {
	form := s.api.form()
	dst = canonical.AppendString(append(dst, `{"start":`...), s.before.End.String())
	dst = canonical.AppendString(append(dst, `,"end":`...), s.after.End.String())
	dst, err := s.AppendOne(ctx, append(dst, `,"event":`...), s.event, form)
	if err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name   string
		events []view.Seen
		form   view.Form
	}{
		{`,"events_before":`, s.before.Events, form},
		{`,"events_after":`, s.after.Events, form},
		{`,"state":`, shown(s.state), s.api.stateForm()},
	} {
		if dst, err = s.Append(ctx, append(dst, part.name...), part.events, part.form); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}
