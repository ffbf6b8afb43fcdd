package syncapi

import (
	"context"
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
	span  rooms.Span // After is 0 if the room is new to the client
	fresh bool       // the client knows nothing of the room
	again bool       // fresh, though the client may remember an earlier stay
}

// joined adds a room that the user is in.
func (b *builder) joined(ctx context.Context, s sight) error {
	v, err := b.viewer(ctx, s)
	if err != nil {
		return err
	}
	p := stretch{sight: s, v: v, span: rooms.Span{After: b.since(), UpTo: b.look.position}}
	p.again = !b.req.initial && s.Position > b.since() && !v.JoinedAt(b.since())
	p.fresh = b.req.initial || p.again
	if p.fresh {
		p.span.After = 0
	}
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
		b.out.join.add(s.Room, append(section, '}'))
	}
	return nil
}

// section writes what joined and left rooms have in common, without the closing brace.
func (b *builder) section(ctx context.Context, p stretch, t timeline) ([]byte, error) {
	dst := append(make([]byte, 0, sectionBytes(p)), '{')
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
	if len(state) == 0 {
		return dst, nil
	}
	name := "state"
	if b.req.stateAfter {
		name = "state_after"
	}
	dst = appendName(dst, name)
	dst = append(dst, `{"events":`...)
	form := b.form
	form.NoPrevious = true
	if dst, err = p.v.Append(ctx, dst, state, form); err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}

// sectionBytes is about how long the section of a room becomes.
func sectionBytes(p stretch) int {
	if p.fresh {
		return 8 << 10
	}
	return 1 << 10
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
	for _, part := range []struct {
		name  string
		items list
	}{{"ephemeral", passing}, {"account_data", data}} {
		if len(part.items) == 0 {
			continue
		}
		dst = appendName(dst, part.name)
		dst = append(dst, `{"events":[`...)
		dst = append(dst, part.items...)
		dst = append(dst, "]}"...)
	}
	return dst, nil
}

// moves says whether any of events changes a membership.
func moves(events []view.Seen) bool {
	for _, e := range events {
		if e.Type == event.TypeMember {
			return true
		}
	}
	return false
}

// left adds a room that the user was in, or was invited to, and is no longer.
func (b *builder) left(ctx context.Context, s sight) error {
	v, err := b.viewer(ctx, s)
	if err != nil {
		return err
	}
	until, stayed := v.Left()
	joinedAtToken := !b.req.initial && v.JoinedAt(b.since())
	p := stretch{sight: s, v: v, span: rooms.Span{After: b.since(), UpTo: until}, fresh: !joinedAtToken}
	if p.fresh {
		p.span.After = 0
	}
	if !stayed || (!b.req.initial && until <= b.since()) {
		return b.leftUnseen(ctx, p)
	}
	t, err := b.timeline(ctx, p)
	if err != nil {
		return err
	}
	section, err := b.section(ctx, p, t)
	if err != nil {
		return err
	}
	b.out.leave.add(s.Room, append(section, '}'))
	return nil
}

// leftUnseen adds a room of which the user may see nothing new but its own
// membership: an invitation that was refused or taken back, a ban after leaving.
func (b *builder) leftUnseen(ctx context.Context, p stretch) error {
	found, err := b.api.Rooms.Events(ctx, p.v.Room, []int64{p.EventNum})
	if err != nil {
		return err
	}
	t := timeline{before: view.At(storage.Position(0))}
	for _, e := range found {
		t.events = append(t.events, view.Seen{Event: e, Membership: e.Membership()})
		t.before = view.Before(e)
	}
	section, err := b.appendTimeline(ctx, []byte{'{'}, p, t)
	if err != nil {
		return err
	}
	b.out.leave.add(p.Room, append(section, '}'))
	return nil
}
