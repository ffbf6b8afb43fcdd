package member

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/owner"
)

// IsRestricted says whether the join rule lets in who is in another room.
// https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms
func IsRestricted(st *owner.Step) bool {
	return st.Room().Version.Restricts(st.JoinRules().Text("join_rule"))
}

// VoucherFor finds, for a user who would join a restricted room without an invite, the member of this server who vouches for
// it; empty where the room needs none.
// https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms
func VoucherFor(ctx context.Context, st *owner.Step, user matrix.UserID) (matrix.UserID, error) {
	if !IsRestricted(st) {
		return "", nil
	}
	if err := MeetsCondition(ctx, st, user); err != nil {
		return "", err
	}
	return inviter(ctx, st)
}

// MeetsCondition refuses who is in none of the rooms from which this one may be joined: for certain, if this server is
// in all of them.
func MeetsCondition(ctx context.Context, st *owner.Step, user matrix.UserID) error {
	looked, unknown := 0, false
	for rule := range canonical.Elements(canonical.Get(st.JoinRules().Content, "allow")) {
		kind, _ := canonical.String(canonical.Get(rule, "type"))
		id, _ := canonical.String(canonical.Get(rule, "room_id"))
		if kind != "m.room_membership" || id == "" {
			continue
		}
		if looked++; looked > maxAllowRules {
			break
		}
		joined, err := st.Rooms().IsJoined(ctx, matrix.RoomID(id), user)
		switch {
		case committed.IsNotHere(err):
			unknown = true
		case err != nil:
			return err
		case joined:
			return nil
		}
	}
	if unknown {
		return matrix.Errorf(matrix.UnableToAuthoriseJoin, "this server is not in all the rooms from which %s may be joined", st.Room().ID)
	}
	return matrix.Errorf(matrix.Forbidden, "%s is in none of the rooms from which %s may be joined", user, st.Room().ID)
}

// maxAllowRules bounds the rooms that are looked at for one join.
const maxAllowRules = 100

// inviter returns a joined user of this server who may invite. Those with a level of their own come
// first, so that a large room is not searched.
func inviter(ctx context.Context, st *owner.Step) (matrix.UserID, error) {
	candidates := st.Creators()
	if st.PowerLevels() != nil {
		for user := range canonical.Fields(canonical.Get(st.PowerLevels().Content, "users")) {
			candidates = append(candidates, matrix.UserID(user))
		}
	}
	user, err := firstInviter(ctx, st, slices.Values(candidates))
	if err != nil || user != "" {
		return user, err
	}
	if st.Levels().UsersDefault() >= st.Levels().Invite() {
		members, err := st.Rooms().Joined(ctx, st.Room())
		if err != nil {
			return "", err
		}
		user, err = firstInviter(ctx, st, func(yield func(matrix.UserID) bool) {
			for _, m := range members {
				if !yield(m.User) {
					return
				}
			}
		})
		if err != nil || user != "" {
			return user, err
		}
	}
	return "", matrix.Errorf(matrix.UnableToGrantJoin, "nobody of %s in %s may invite", st.Rooms().ServerName(), st.Room().ID)
}

// firstInviter returns the first of some users who may invite; empty if there is none.
func firstInviter(ctx context.Context, st *owner.Step, users func(func(matrix.UserID) bool)) (matrix.UserID, error) {
	for user := range users {
		may, err := MayInvite(ctx, st, user)
		if err != nil {
			return "", err
		}
		if may {
			return user, nil
		}
	}
	return "", nil
}

// MayInvite says whether a user of this server is in the room and may invite others to it.
func MayInvite(ctx context.Context, st *owner.Step, user matrix.UserID) (bool, error) {
	if !st.Rooms().IsLocal(user) || st.Levels().User(user) < st.Levels().Invite() {
		return false, nil
	}
	m, _, err := st.Member(ctx, user)
	return m == event.Join, err
}
