package resident

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/roomserver/receive"
)

// ReceiveInvite takes an invite of another server: it shows it to the user, and returns it with the signature of this
// server, which is the consent of the user's server. The event has passed event.Parse, and its sender's server has signed
// it; nothing but what checkInvite has seen is signed. The state, clean stripped events, is shown with it, true or not.
// Where this server is in the room, the invite must be allowed there.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid
func (s *Host) ReceiveInvite(ctx context.Context, invite *event.Event, state []json.RawMessage) (*event.Event, error) {
	if err := s.checkInvite(invite); err != nil {
		return nil, err
	}
	if err := s.people.MayBeInvited(ctx, invite.Target()); err != nil {
		return nil, err
	}
	signed, err := invite.Sign(s.name, s.key)
	if err != nil {
		return nil, err
	}
	resident, err := s.receiver.SetAside(ctx, receive.Aside{Event: signed, Stripped: receive.StrippedOf(signed, state)})
	if resident {
		err = s.invitedInto(ctx, signed)
	}
	if err != nil {
		return nil, err
	}
	return signed, nil
}

// checkInvite holds an event against what is signed: an invite for a user of ours by one of another server.
func (s *Host) checkInvite(ev *event.Event) error {
	bad := func(format string, args ...any) error {
		return matrix.Errorf(matrix.InvalidParam, format, args...)
	}
	switch {
	case ev.Redacted:
		return bad("the content hash of the event is wrong")
	case ev.Type != event.TypeMember || !ev.IsState() || ev.Membership() != event.Invite:
		return bad("not an invite")
	case s.owners.IsLocal(ev.Sender) || len(ev.SignedBy(ev.Sender.Server())) == 0:
		return bad("the invite has no signature of another server, that of %s", ev.Sender)
	}
	target, err := matrix.ParseUserID(string(ev.Target()))
	if err != nil || !s.owners.IsLocal(target) {
		return bad("the invited is not a user of %s", s.name)
	}
	return nil
}

// invitedInto takes an invite to a room that this server is in.
func (s *Host) invitedInto(ctx context.Context, ev *event.Event) error {
	origin := ev.Sender.Server()
	switch result := s.receiver.Receive(ctx, origin, ev.RoomID, []*event.Event{ev})[0]; result.Outcome {
	case owner.Accepted, owner.Known:
		return nil
	case owner.Rejected, owner.SoftFailed:
		return owner.Forbidden(result.Err)
	case owner.Busy, owner.Failed:
		return result.Err
	}
	return matrix.Errorf(matrix.Forbidden, "the invite stands on events that %s does not have", origin)
}
