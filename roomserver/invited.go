package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/users"
)

// maxStrippedBytes bounds what an invite or a knock tells of its room, beside its own event. What is beyond it is left
// out.
const maxStrippedBytes = 128 << 10

// ReceiveInvite takes an invite of another server: it shows it to the user, and returns it with the signature of this
// server, which is the consent of the user's server. The event has passed event.Parse, and its sender's server has signed
// it; nothing but what checkInvite has seen is signed. The state, clean stripped events, is shown with it, true or not.
// Where this server is in the room, the invite must be allowed there.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid
func (s *Server) ReceiveInvite(ctx context.Context, invite *event.Event, state []json.RawMessage) (*event.Event, error) {
	if err := s.checkInvite(invite); err != nil {
		return nil, err
	}
	if err := s.mayBeInvited(ctx, invite.Target()); err != nil {
		return nil, err
	}
	signed, err := invite.Sign(s.name, s.key)
	if err != nil {
		return nil, err
	}
	resident, err := s.setAside(ctx, aside{event: signed, stripped: strippedOf(signed, state)})
	if resident {
		err = s.invitedInto(ctx, signed)
	}
	if err != nil {
		return nil, err
	}
	return signed, nil
}

// checkInvite holds an event against what is signed: an invite for a user of ours by one of another server.
func (s *Server) checkInvite(ev *event.Event) error {
	bad := func(format string, args ...any) error {
		return matrix.Errorf(matrix.InvalidParam, format, args...)
	}
	switch {
	case ev.Redacted:
		return bad("the content hash of the event is wrong")
	case ev.Type != event.TypeMember || !ev.IsState() || ev.Membership() != event.Invite:
		return bad("not an invite")
	case s.isLocal(ev.Sender) || len(ev.SignedBy(ev.Sender.Server())) == 0:
		return bad("the invite has no signature of another server, that of %s", ev.Sender)
	}
	target, err := matrix.ParseUserID(string(ev.Target()))
	if err != nil || !s.isLocal(target) {
		return bad("the invited is not a user of %s", s.name)
	}
	return nil
}

// mayBeInvited refuses invites for who is not here, or wants none.
func (s *Server) mayBeInvited(ctx context.Context, user matrix.UserID) error {
	if _, err := s.profiles.Profile(ctx, user); err != nil {
		return err
	}
	account, found, err := users.ByID(ctx, s.db, user)
	if err != nil {
		return fmt.Errorf("find %s: %w", user, err)
	}
	if found && account.DeactivatedMS != 0 {
		return matrix.Errorf(matrix.Forbidden, "%s is no longer there", user)
	}
	return s.wantsInvites(ctx, user)
}

// wantsInvites refuses invites for a user of this server who wants none.
// https://spec.matrix.org/v1.19/client-server-api/#invite-permission
func (s *Server) wantsInvites(ctx context.Context, user matrix.UserID) error {
	content, _, err := users.AccountData(ctx, s.db, user, "", "m.invite_permission_config")
	if err != nil {
		return fmt.Errorf("read the account data of %s: %w", user, err)
	}
	var config struct {
		DefaultAction string `json:"default_action"`
	}
	if json.Unmarshal(content, &config) == nil && config.DefaultAction == "block" {
		return matrix.Errorf(matrix.InviteBlocked, "%s wants no invites", user)
	}
	return nil
}

// invitedInto takes an invite to a room that this server is in.
func (s *Server) invitedInto(ctx context.Context, ev *event.Event) error {
	origin := ev.Sender.Server()
	switch result := s.Receive(ctx, origin, ev.RoomID, []*event.Event{ev})[0]; result.Outcome {
	case Accepted, Known:
		return nil
	case Rejected, SoftFailed:
		return forbidden(result.Err)
	case Busy, Failed:
		return result.Err
	}
	return matrix.Errorf(matrix.Forbidden, "the invite stands on events that %s does not have", origin)
}

// strippedOf is what the target of an invite or a knock is shown of the room: a JSON array of stripped events that ends
// with the event itself, in the place of which none of them stands.
func strippedOf(ev *event.Event, state []json.RawMessage) []byte {
	list := []byte{'['}
	for _, raw := range state {
		typ, _ := canonical.String(canonical.Get(raw, "type"))
		key, _ := canonical.String(canonical.Get(raw, "state_key"))
		if ev.StateID() != (event.Key{Type: typ, StateKey: key}) && len(list)+len(raw) <= maxStrippedBytes {
			list = append(append(list, raw...), ',')
		}
	}
	return append(appendStripped(list, ev), ']')
}

// receiveAside takes from some events those that are of rooms that this server is not in, but has an invite to, or has
// knocked on: others tell of the end of these. It returns the rest, which only a room that this server has been in can take.
func (s *Server) receiveAside(ctx context.Context, room rooms.Room, r *reception, events []*event.Event) (rest []*event.Event, err error) {
	for _, ev := range events {
		ended, err := s.turnedAway(ctx, room, ev)
		if err != nil {
			return nil, err
		}
		if ended {
			r.note(Result{Event: ev.ID, Outcome: Accepted})
		} else {
			rest = append(rest, ev)
		}
	}
	if _, loaded := s.committedRoot(room.ID); loaded || len(rest) == 0 {
		return rest, nil
	}
	_, lived, err := rooms.HeadOf(ctx, s.db, room.Num)
	if err == nil && !lived {
		err = noRoomError{matrix.Errorf(matrix.NotFound, "this server is not in %s", room.ID)}
	}
	return rest, err
}

// turnedAway ends an invite or a knock of a room that this server is not in, if the event is the leave or ban of the user.
// Nobody here can tell who may do so. Who names the invite or the knock among the auth events comes after it, as an old
// kick by who has invited the user again does not, and has seen it in the room, where alone the ID of a knock is known. An
// invite is taken back by the inviter.
func (s *Server) turnedAway(ctx context.Context, room rooms.Room, ev *event.Event) (bool, error) {
	if m := ev.Membership(); !s.isLocal(ev.Target()) || m != event.Leave && m != event.Ban {
		return false, nil
	}
	before, err := s.standing(ctx, room, ev.Target())
	if err != nil || before.invite == nil || before.Membership == event.Invite && before.Inviter != ev.Sender {
		return false, err
	}
	if !slices.Contains(ev.AuthEvents, before.invite.ID) {
		return false, err
	}
	resident, err := s.setAside(ctx, aside{event: ev, ends: before.invite.Num})
	if errors.Is(err, rooms.ErrAsideOver) {
		return false, nil
	}
	return !resident && err == nil, err
}
