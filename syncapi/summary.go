package syncapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// The types of events that name a room.
const (
	typeName           = "m.room.name"
	typeCanonicalAlias = "m.room.canonical_alias"
)

// summary is what names a room that has no name, and the same for all its members.
type summary struct {
	joined, invited int64
	named           bool // by a name or an alias, so that heroes are not needed
}

// appendSummary writes the room's summary. To a client that loads members lazily,
// state brings the members it names.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync
func (b *builder) appendSummary(ctx context.Context, dst []byte, p stretch, state []view.Seen) ([]byte, []view.Seen, error) {
	sum := p.summary
	if sum == nil {
		var err error
		if sum, err = b.summarise(ctx, p); err != nil {
			return nil, nil, err
		}
		b.api.hub.learnSummary(p.RoomNum, sum, b.look.position)
	}
	dst = appendName(dst, "summary")
	dst = append(dst, `{"m.invited_member_count":`...)
	dst = strconv.AppendInt(dst, sum.invited, 10)
	dst = append(dst, `,"m.joined_member_count":`...)
	dst = strconv.AppendInt(dst, sum.joined, 10)
	if sum.named {
		return append(dst, '}'), state, nil
	}
	dst, heroes, err := b.appendHeroes(ctx, append(dst, `,"m.heroes":[`...), p)
	if b.lazily() {
		state = withMissing(state, heroes)
	}
	return append(dst, "]}"...), state, err
}

// summarise reads the summary of a room as it is now. It may be newer than the
// answer: then what moved it brings a summary into the next one too.
func (b *builder) summarise(ctx context.Context, p stretch) (*summary, error) {
	head, _, err := rooms.HeadOf(ctx, b.api.DB, p.RoomNum)
	if err != nil {
		return nil, err
	}
	now := b.api.Rooms.StateAt(p.v.Room, head.Root)
	names, err := now.Events(ctx, event.Key{Type: typeName}, event.Key{Type: typeCanonicalAlias})
	if err != nil {
		return nil, err
	}
	return &summary{head.Joined, head.Invited, says(names[0], "name") || says(names[1], "alias")}, nil
}

// appendHeroes writes the IDs of those by whom the user would call the room, and
// returns their members.
func (b *builder) appendHeroes(ctx context.Context, dst []byte, p stretch) ([]byte, []*rooms.Event, error) {
	heroes, err := rooms.Heroes(ctx, b.api.DB, p.RoomNum, b.user.id)
	if err != nil {
		return nil, nil, err
	}
	keys := make([]event.Key, len(heroes))
	for i, hero := range heroes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = canonical.AppendString(dst, string(hero))
		keys[i] = event.Key{Type: event.TypeMember, StateKey: string(hero)}
	}
	if !b.lazily() {
		return dst, nil, nil
	}
	now, err := b.stateAt(ctx, p, p.span.UpTo)
	if err != nil {
		return nil, nil, err
	}
	members, err := now.Known(ctx, keys...)
	return dst, members, err
}

// says whether a state event has a non-empty text in its content.
func says(e *rooms.Event, name string) bool {
	if e == nil {
		return false
	}
	text, _ := canonical.String(canonical.Get(e.Content, name))
	return text != ""
}

// withMissing returns state with those of more, nil ones left out, whose place in
// it is empty.
func withMissing(state []view.Seen, more []*rooms.Event) []view.Seen {
	for _, e := range more {
		if e == nil || slices.ContainsFunc(state, func(have view.Seen) bool { return have.Target() == e.Target() }) {
			continue
		}
		state = append(state, view.Seen{Event: e})
	}
	return state
}
