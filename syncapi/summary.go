package syncapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
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
	named           bool         // by a name or an alias, so that heroes are not needed
	heroes          rooms.Heroes // of a room that has none
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
	heroes := sum.heroes.For(b.user.id)
	dst = append(dst, `,"m.heroes":[`...)
	for i, hero := range heroes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = canonical.AppendString(dst, string(hero))
	}
	dst = append(dst, "]}"...)
	if !b.lazily() {
		return dst, state, nil
	}
	members, err := b.membersOf(ctx, p, heroes)
	return dst, withMissing(state, members), err
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
	sum := &summary{joined: head.Joined, invited: head.Invited, named: says(names[0], "name") || says(names[1], "alias")}
	if !sum.named {
		sum.heroes, err = rooms.HeroesOf(ctx, b.api.DB, p.RoomNum)
	}
	return sum, err
}

// membersOf returns the member events of users, nil of who has none.
func (b *builder) membersOf(ctx context.Context, p stretch, users []matrix.UserID) ([]*rooms.Event, error) {
	keys := make([]event.Key, len(users))
	for i, user := range users {
		keys[i] = event.Key{Type: event.TypeMember, StateKey: string(user)}
	}
	now, err := b.stateAt(ctx, p, p.span.UpTo)
	if err != nil {
		return nil, err
	}
	return now.Known(ctx, keys...)
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
