package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Join takes a user into a room that this server is in. Who is in it already is in it.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin
func (s *Server) Join(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	return s.JoinWith(ctx, by, JoinRoom{Room: room, Reason: reason})
}

// JoinRoom is a wish to join.
type JoinRoom struct {
	Room    matrix.RoomID
	Reason  string
	Extra   map[string]json.RawMessage // more members of the event's content; what the server sets goes before them
	Vouched bool                       // into a partial room: a server that knows its members lets the user in
}

// JoinWith is Join with something to say: clients put what they like into their member events.
func (s *Server) JoinWith(ctx context.Context, by matrix.Requester, in JoinRoom) error {
	shown, err := s.profileOf(ctx, by.User)
	if err != nil {
		return err
	}
	return s.do(ctx, in.Room, func(ctx context.Context, st *step) error {
		before, _, err := st.member(ctx, by.User)
		if errors.Is(err, statetree.ErrUnknown) {
			if err = errNotVouched; in.Vouched {
				err = nil
			}
		}
		if err != nil || before == event.Join {
			return err
		}
		if err := st.checkGuestJoins(ctx, by); err != nil {
			return err
		}
		change := memberChange{target: by.User, membership: event.Join, reason: in.Reason, profile: shown, extra: in.Extra}
		change.vouched = in.Vouched
		if before != event.Invite && before != event.Ban {
			if change.via, err = st.authoriser(ctx, by.User); err != nil {
				return err
			}
		}
		return st.setMember(ctx, by.User, change)
	})
}

// errNotVouched says that a user may be banned from a partial room, for all that is known here.
var errNotVouched = matrix.Errorf(matrix.UnableToAuthoriseJoin, "this server does not know all members of the room yet")

// checkGuestJoins: guests come in only where the room says so.
// https://spec.matrix.org/v1.19/client-server-api/#mroomguest_access
func (st *step) checkGuestJoins(ctx context.Context, by matrix.Requester) error {
	if !by.Guest {
		return nil
	}
	found, err := st.lookup(ctx, event.Key{Type: typeGuestAccess})
	if err != nil {
		return err
	}
	if contentText(found[0], "guest_access") != "can_join" {
		return matrix.Errorf(matrix.GuestAccessForbidden, "%s does not let guests in", st.room.ID)
	}
	return nil
}

// authoriser finds, for a user who would join a restricted room without an invite, the member of this
// server who vouches for it; empty where the room needs none.
// https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms
func (st *step) authoriser(ctx context.Context, user matrix.UserID) (matrix.UserID, error) {
	if !st.isRestricted() {
		return "", nil
	}
	if err := st.meetsCondition(ctx, user); err != nil {
		return "", err
	}
	return st.inviter(ctx)
}

// maxAllowRules bounds the rooms that are looked at for one join.
const maxAllowRules = 100

// inviter returns a joined user of this server who may invite. Those with a level of their own come
// first, so that a large room is not searched.
func (st *step) inviter(ctx context.Context) (matrix.UserID, error) {
	candidates := auth.Creators(st.room.Version, plain(st.tip.create))
	if st.tip.power != nil {
		for user := range canonical.Fields(canonical.Get(st.tip.power.Content, "users")) {
			candidates = append(candidates, matrix.UserID(user))
		}
	}
	user, err := st.firstInviter(ctx, slices.Values(candidates))
	if err != nil || user != "" {
		return user, err
	}
	if st.tip.levels.UsersDefault() >= st.tip.levels.Invite() {
		members, err := rooms.MembersOf(ctx, st.server.db, st.room.Num, event.Join)
		if err != nil {
			return "", fmt.Errorf("find the members of %s: %w", st.room.ID, err)
		}
		user, err = st.firstInviter(ctx, func(yield func(matrix.UserID) bool) {
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
	return "", matrix.Errorf(matrix.UnableToGrantJoin, "nobody of %s in %s may invite", st.server.name, st.room.ID)
}

func (st *step) firstInviter(ctx context.Context, users func(func(matrix.UserID) bool)) (matrix.UserID, error) {
	for user := range users {
		if !st.server.isLocal(user) || st.tip.levels.User(user) < st.tip.levels.Invite() {
			continue
		}
		membership, _, err := st.member(ctx, user)
		if err != nil {
			return "", err
		}
		if membership == event.Join {
			return user, nil
		}
	}
	return "", nil
}

// Knock asks to be let in. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias
func (s *Server) Knock(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	shown, err := s.profileOf(ctx, by.User)
	if err != nil {
		return err
	}
	return s.do(ctx, room, func(ctx context.Context, st *step) error {
		if !st.room.Version.Knock {
			return matrix.Errorf(matrix.Forbidden, "rooms of version %s have no knocking", st.room.Version.ID)
		}
		before, _, err := st.member(ctx, by.User)
		if err != nil || before == event.Knock {
			return err
		}
		return st.setMember(ctx, by.User, memberChange{target: by.User, membership: event.Knock, reason: reason, profile: shown})
	})
}

// contentText returns a text in the content of an event; empty if there is no event or no text.
func contentText(ev *rooms.Event, path ...string) string {
	if ev == nil {
		return ""
	}
	text, _ := canonical.String(canonical.Get(ev.Content, path...))
	return text
}
