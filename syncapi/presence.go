package syncapi

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// presence adds the users whose presence changed and who share a room with this one.
// https://spec.matrix.org/v1.19/client-server-api/#presence
func (b *builder) presence(ctx context.Context) error {
	var since int64
	if b.sameBoot() && !b.req.initial {
		since = b.req.told.Ephemeral
	}
	var failed error
	found := b.api.Ephemeral.PresenceSince(since, func(other matrix.UserID) bool {
		if !b.req.filter.Presence.Wants("m.presence", other) {
			return false
		}
		shares, err := b.api.shares(ctx, b.user, other)
		if err != nil {
			failed = err
		}
		return shares
	})
	for _, p := range found {
		b.out.presence = appendPresence(b.out.presence, p)
		delete(b.met, p.User)
	}
	b.presenceOfMet()
	return failed
}

// presenceOfMet adds the presence of those whom the user has just come to share a
// room with, though it may not have changed of late.
func (b *builder) presenceOfMet() {
	for other := range b.met {
		p := b.api.Ephemeral.Presence(other)
		if p.Known && b.req.filter.Presence.Wants("m.presence", other) {
			b.out.presence = appendPresence(b.out.presence, p)
		}
	}
}

// maxMet bounds whose presence comes with a room that was joined.
const maxMet = 500

// meet notes whom the user came to share a room with: everybody in a room that it
// joined, and who joined one that it is in.
func (b *builder) meet(ctx context.Context, p stretch, shown []view.Seen) error {
	if b.req.initial {
		return nil // presence is told of everybody
	}
	for _, e := range shown {
		if e.Target() != "" && e.Event.Membership() == event.Join {
			b.meetUser(e.Target())
		}
	}
	if !p.again {
		return nil
	}
	members, err := rooms.MembersOf(ctx, b.api.DB, p.RoomNum, event.Join)
	for _, m := range members[:min(len(members), maxMet)] {
		b.meetUser(m.User)
	}
	return err
}

func (b *builder) meetUser(other matrix.UserID) {
	if b.met == nil {
		b.met = map[matrix.UserID]bool{}
	}
	if other != b.user.id {
		b.met[other] = true
	}
}

// shares says whether two users are in a room together. A user counts as its own company.
func (a *API) shares(ctx context.Context, u *user, other matrix.UserID) (bool, error) {
	if u.id == other {
		return true, nil
	}
	if shares, known := a.hub.shares(u, other); known {
		return shares, nil
	}
	theirs, err := rooms.MembershipsOfUser(ctx, a.DB, other, 0)
	if err != nil {
		return false, err
	}
	return a.hub.joinedToAny(u, theirs), nil
}

func appendPresence(l list, p ephemeral.Presence) list {
	l = append(l.next(), `{"content":{"presence":`...)
	l = canonical.AppendString(l, p.State)
	if p.Status != "" {
		l = append(l, `,"status_msg":`...)
		l = canonical.AppendString(l, p.Status)
	}
	if p.Known {
		l = append(l, `,"last_active_ago":`...)
		l = strconv.AppendInt(l, ago(p.LastActiveAgo), 10)
	}
	if p.State == ephemeral.Online {
		l = append(l, `,"currently_active":`...)
		l = strconv.AppendBool(l, p.CurrentlyActive)
	}
	l = append(l, `},"sender":`...)
	l = canonical.AppendString(l, string(p.User))
	return append(l, `,"type":"m.presence"}`...)
}
