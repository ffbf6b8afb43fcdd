package syncapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// stretch is the part of a room that an answer covers.
type stretch struct {
	sight
	v     *view.Viewer
	span  storage.Span     // After is 0 if the room is new to the client
	known storage.Position // where the client last knew the room's state; 0: nowhere
	fresh bool             // the client knows nothing of the timeline, or not of all between
	again bool             // fresh, though the client may remember an earlier stay
	whole bool             // the client is to have all of the state
}

// stretch finds what the client is to be told of a room, up to a position: what
// happened since its token, or everything if the user was not in the room from
// then on.
func (b *builder) stretch(s sight, v *view.Viewer, upTo storage.Position) stretch {
	p := stretch{sight: s, v: v, span: storage.Span{After: b.since(), UpTo: upTo}, again: b.req.lost}
	if !b.req.initial && (s.Position <= b.since() || v.JoinedAt(b.since())) {
		p.known = b.since()
	}
	if !b.req.initial && s.Position > b.since() {
		p.again = !v.StayedSince(b.since())
	}
	if _, unseen := b.unseen[s.RoomNum]; unseen {
		p.again, p.known = true, 0
	}
	if p.fresh = b.req.initial || p.again; p.fresh {
		p.span.After = 0
	}
	p.whole = p.fresh || b.req.fullState
	return p
}

// joined adds a room that the user is in.
func (b *builder) joined(ctx context.Context, s sight) error {
	if b.isPartial(s.RoomNum) {
		return nil
	}
	v, err := b.viewer(ctx, s)
	if err != nil {
		return err
	}
	p := b.stretch(s, v, b.look.position)
	t, err := b.timeline(ctx, p)
	if err != nil {
		return err
	}
	if err := b.meet(ctx, p, t.events); err != nil {
		return err
	}
	section, err := b.section(ctx, p, t)
	if err != nil {
		return err
	}
	if section, err = b.addUnlogged(ctx, section, p); err != nil {
		return err
	}
	if len(section) > len("{") || p.fresh {
		b.out.join.add(s.Room, b.finish(section))
	}
	return nil
}

// section writes what joined and left rooms have in common, without the closing brace.
func (b *builder) section(ctx context.Context, p stretch, t timeline) ([]byte, error) {
	dst := append(make([]byte, 0, sectionBytes(p, t)), '{')
	state, moved, err := b.state(ctx, p, t)
	if err != nil {
		return nil, err
	}
	if p.Membership.Membership == event.Join && (p.fresh || moved || moves(t.events)) {
		if dst, state, err = b.appendSummary(ctx, dst, p, state); err != nil {
			return nil, err
		}
	}
	if b.lazily() {
		state = b.dropSent(p, t, state)
	}
	if len(t.events) > 0 || t.limited || p.fresh {
		if dst, err = b.appendTimeline(ctx, dst, p, t); err != nil {
			return nil, err
		}
	}
	return b.appendState(ctx, dst, p, state)
}

// appendState writes the state section, unless it is empty.
func (b *builder) appendState(ctx context.Context, dst []byte, p stretch, state []view.Seen) ([]byte, error) {
	if len(state) == 0 {
		return dst, nil
	}
	name := "state"
	if b.req.stateAfter {
		name = stateAfter
	}
	dst = append(appendName(dst, name), `{"events":`...)
	form := b.form
	form.NoPrevious = true
	dst, err := p.v.Append(ctx, dst, state, form)
	return append(dst, '}'), err
}

const stateAfter = "state_after"

// finish closes the section of a room. One that has no state_after gets an empty
// one if the client asked for it: else it would take the timeline for state.
func (b *builder) finish(section []byte) []byte {
	if b.req.stateAfter && canonical.Get(append(section, '}'), stateAfter) == nil {
		section = append(appendName(section, stateAfter), `{"events":[]}`...)
	}
	return append(section, '}')
}

// sectionBytes is about how long the section of a room becomes.
func sectionBytes(p stretch, t timeline) int {
	const beside, member, each = 256, 256, 640
	size := beside + each*len(t.events)
	if p.whole {
		size += 4 << 10
	}
	return size + member
}

// appendName writes the name of the next member of an object.
func appendName(dst []byte, name string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = canonical.AppendString(dst, name)
	return append(dst, ':')
}

func (b *builder) appendTimeline(ctx context.Context, dst []byte, p stretch, t timeline) ([]byte, error) {
	dst = appendName(dst, "timeline")
	dst = append(dst, `{"events":`...)
	dst, err := p.v.Append(ctx, dst, t.events, b.form)
	if err != nil {
		return nil, err
	}
	dst = append(dst, `,"limited":`...)
	dst = strconv.AppendBool(dst, t.limited)
	dst = append(dst, `,"prev_batch":`...)
	dst = canonical.AppendString(dst, t.before.String())
	return append(dst, '}'), nil
}

// addUnlogged writes typing, receipts and account data.
func (b *builder) addUnlogged(ctx context.Context, dst []byte, p stretch) ([]byte, error) {
	passing, err := b.roomEphemeral(ctx, p.sight, p.fresh)
	if err != nil {
		return nil, err
	}
	data, err := b.roomData(ctx, p.Room, p.fresh)
	if err != nil {
		return nil, err
	}
	if p.fresh && len(passing) == 0 {
		dst = append(appendName(dst, "ephemeral"), `{"events":[]}`...) // nobody types, and nobody has read anything
	} else {
		dst = appendItems(dst, "ephemeral", passing)
	}
	return appendItems(dst, "account_data", data), nil
}

// appendItems writes a member {"events": [...]} of a room, unless it is empty.
func appendItems(dst []byte, name string, items list) []byte {
	if len(items) == 0 {
		return dst
	}
	dst = append(appendName(dst, name), `{"events":[`...)
	dst = append(dst, items...)
	return append(dst, "]}"...)
}

// moves says whether any of events may change the room's summary.
func moves(events []view.Seen) bool {
	return slices.ContainsFunc(events, func(e view.Seen) bool { return names(e.Event) })
}

// names says whether an event may change what a room without a name is called by,
// or that it has none.
func names(e *rooms.Event) bool {
	return e.IsState() && (e.Type == event.TypeMember || e.Type == typeName || e.Type == typeCanonicalAlias)
}

// left adds a room that the user was in, or was invited to, and is no longer.
func (b *builder) left(ctx context.Context, s sight) error {
	v, err := b.viewer(ctx, s)
	if err != nil {
		return err
	}
	until, stayed := v.Left()
	if !stayed || (!b.req.initial && until <= b.since()) {
		return b.leftUnseen(ctx, stretch{sight: s, v: v}, stayed)
	}
	p := b.stretch(s, v, until)
	t, err := b.timeline(ctx, p)
	if err != nil {
		return err
	}
	section, err := b.section(ctx, p, t)
	if err != nil {
		return err
	}
	data, err := b.roomData(ctx, s.Room, p.fresh)
	if err != nil {
		return err
	}
	b.out.leave.add(s.Room, b.finish(appendItems(section, "account_data", data)))
	return nil
}

// leftUnseen adds a room of which the user may see nothing new but its own
// membership: an invitation that was refused or taken back, a ban after leaving.
// Between an earlier stay and that, there may be events.
func (b *builder) leftUnseen(ctx context.Context, p stretch, stayed bool) error {
	found, err := b.api.Rooms.Events(ctx, p.v.Room, []int64{p.EventNum})
	if err != nil {
		return err
	}
	own := view.Seen{Event: found[0], Membership: found[0].Membership()}
	t := timeline{before: view.Before(own.Event), limited: stayed}
	if f := &b.req.filter.Room.Timeline; f.WantsRoom(p.Room) && f.WantsEvent(own.Event.Event) {
		t.events = []view.Seen{own}
	}
	section, err := b.appendTimeline(ctx, []byte{'{'}, p, t)
	if err != nil {
		return err
	}
	if b.req.stateAfter {
		if section, err = b.appendState(ctx, section, p, []view.Seen{own}); err != nil {
			return err
		}
	}
	b.out.leave.add(p.Room, b.finish(section))
	return nil
}
