package roomserver

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A memberChange is a member event to be.
type memberChange struct {
	target     matrix.UserID
	membership event.Membership
	reason     string
	direct     bool          // of an invite: to a direct chat
	via        matrix.UserID // of a restricted join: who vouches
	profile    profile       // of a target who comes or is called
	extra      map[string]json.RawMessage
	vouched    bool // of a join to a partial room: by another server
}

// profile is what of a user's profile goes into member events.
type profile map[string]any

var profileFields = [...]string{"displayname", "avatar_url"}

// profileOf reads the profile of a user of this server. Others have none here.
func (s *Server) profileOf(ctx context.Context, user matrix.UserID) (profile, error) {
	if !s.isLocal(user) {
		return nil, nil
	}
	fields, err := s.profiles.Profile(ctx, user)
	if err != nil && matrix.CodeOf(err) != matrix.NotFound {
		return nil, fmt.Errorf("read the profile of %s: %w", user, err)
	}
	shown := make(profile, 2)
	for _, field := range profileFields {
		var text string
		if json.Unmarshal(fields[field], &text) == nil && text != "" {
			shown[field] = text
		}
	}
	return shown, nil
}

// content makes the content of the event.
func (c memberChange) content() ([]byte, error) {
	content := make(map[string]any, len(c.extra)+4)
	for name, value := range c.extra {
		content[name] = value
	}
	content["membership"] = c.membership
	maps.Copy(content, c.profile)
	if c.reason != "" {
		content["reason"] = c.reason
	}
	if c.via != "" {
		content[authoriser] = c.via
	}
	if c.direct {
		content["is_direct"] = true
	}
	return canonical.Marshal(content)
}

// setMember adds the member event of a change.
func (st *step) setMember(ctx context.Context, by matrix.UserID, c memberChange) error {
	content, err := c.content()
	if err != nil {
		return err
	}
	target := string(c.target)
	_, err = st.add(ctx, draft{typ: event.TypeMember, stateKey: &target, sender: by, content: content, vouched: c.vouched})
	return err
}

// A Move is a change of somebody's membership by somebody else.
type Move struct {
	Room   matrix.RoomID
	Target matrix.UserID
	Reason string
}

// Invite invites a user. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite
func (s *Server) Invite(ctx context.Context, by matrix.Requester, in Move) error {
	if err := s.checkInvitee(by, in.Target); err != nil {
		return err
	}
	if err := s.wantsInvites(ctx, in.Target); err != nil {
		return err
	}
	shown, err := s.profileOf(ctx, in.Target)
	if err != nil {
		return err
	}
	invited := memberChange{target: in.Target, membership: event.Invite, reason: in.Reason, profile: shown}
	return s.move(ctx, by, in.Room, invited, func(before event.Membership) error {
		switch before {
		case event.Join:
			return matrix.Errorf(matrix.Forbidden, "%s is already in %s", in.Target, in.Room)
		case event.Ban:
			return matrix.Errorf(matrix.Forbidden, "%s is banned from %s", in.Target, in.Room)
		}
		return nil
	})
}

func (s *Server) checkInvitee(by matrix.Requester, target matrix.UserID) error {
	switch {
	case by.Guest:
		return matrix.Errorf(matrix.GuestAccessForbidden, "guests may not invite")
	case !s.isLocal(target):
		return matrix.Errorf(matrix.Unknown, "cannot invite %s: this server does not reach other servers", target).WithStatus(502)
	}
	return nil
}

// Kick makes a user leave. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick
func (s *Server) Kick(ctx context.Context, by matrix.Requester, in Move) error {
	kicked := memberChange{target: in.Target, membership: event.Leave, reason: in.Reason}
	return s.move(ctx, by, in.Room, kicked, func(before event.Membership) error {
		switch before {
		case event.Join, event.Invite, event.Knock:
			return nil
		case event.Ban:
			return matrix.Errorf(matrix.BadState, "%s is banned from %s: kicking would lift the ban", in.Target, in.Room)
		}
		return matrix.Errorf(matrix.Forbidden, "%s is not in %s", in.Target, in.Room)
	})
}

// Ban keeps a user out. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban
func (s *Server) Ban(ctx context.Context, by matrix.Requester, in Move) error {
	banned := memberChange{target: in.Target, membership: event.Ban, reason: in.Reason}
	return s.move(ctx, by, in.Room, banned, func(event.Membership) error { return nil })
}

// Unban lifts a ban. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidunban
func (s *Server) Unban(ctx context.Context, by matrix.Requester, in Move) error {
	unbanned := memberChange{target: in.Target, membership: event.Leave, reason: in.Reason}
	return s.move(ctx, by, in.Room, unbanned, func(before event.Membership) error {
		if before != event.Ban {
			return matrix.Errorf(matrix.BadState, "%s is not banned from %s", in.Target, in.Room)
		}
		return nil
	})
}

// move makes a change of somebody else's membership, if that may follow the one before.
func (s *Server) move(ctx context.Context, by matrix.Requester, room matrix.RoomID, c memberChange, mayFollow func(before event.Membership) error) error {
	err := s.do(ctx, room, func(ctx context.Context, st *step) error {
		if err := st.mustBeJoined(ctx, by.User); err != nil {
			return err
		}
		before, _, err := st.member(ctx, c.target)
		if err != nil {
			return err
		}
		if err := mayFollow(before); err != nil {
			return err
		}
		return st.setMember(ctx, by.User, c)
	})
	return notThere(room, err)
}

// Leave leaves a room, rejects an invite to it, or takes back a knock. Who has left already has left.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave
func (s *Server) Leave(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	outside := false
	err := s.do(ctx, room, func(ctx context.Context, st *step) error {
		before, _, err := st.member(ctx, by.User)
		if err != nil {
			return err
		}
		outside = before == "" || before == event.Leave
		switch before {
		case event.Leave:
			return nil
		case event.Ban:
			return matrix.Errorf(matrix.Forbidden, "%s is banned from %s", by.User, room)
		case "":
			return matrix.Errorf(matrix.Forbidden, "%s is not in %s", by.User, room)
		}
		return st.setMember(ctx, by.User, memberChange{target: by.User, membership: event.Leave, reason: reason})
	})
	if outside {
		if dropped, dropErr := s.dropAside(ctx, by.User, room); dropped || dropErr != nil {
			return dropErr
		}
	}
	return notThere(room, err)
}

// Forget hides a room that its user has left.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget
func (s *Server) Forget(ctx context.Context, by matrix.Requester, id matrix.RoomID) error {
	room, err := s.Room(ctx, id)
	if err != nil {
		return notThere(id, err)
	}
	m, found, err := rooms.MembershipOf(ctx, s.db, room.Num, by.User)
	switch {
	case err != nil:
		return fmt.Errorf("find the membership of %s in %s: %w", by.User, id, err)
	case !found:
		return matrix.Errorf(matrix.Forbidden, "%s has never been in %s", by.User, id)
	case m.Membership != event.Leave && m.Membership != event.Ban:
		return matrix.Errorf(matrix.Unknown, "leave %s before you forget it", id).WithStatus(400)
	case m.Forgotten:
		return nil
	}
	_, err = s.db.Commit(ctx, rooms.Forget{Membership: m})
	return err
}
