package local

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// An Invite is an invite of ours on its way to the server of the invited user, which has to sign it.
type Invite struct {
	Event *event.Event
	State []*event.Event // what tells the invited what the room is
	room  rooms.Room
}

// DraftInvite makes the invite of a user of another server. It is in the room when InviteSigned has taken it back.
// https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room
func (s *Users) DraftInvite(ctx context.Context, by matrix.Requester, in Move, direct bool) (Invite, error) {
	if by.Guest {
		return Invite{}, matrix.Errorf(matrix.GuestAccessForbidden, "guests may not invite")
	}
	if s.owners.IsLocal(in.Target) {
		return Invite{}, matrix.Errorf(matrix.Unknown, "%s is a user of this server", in.Target)
	}
	content, err := member.Change{Target: in.Target, Membership: event.Invite, Reason: in.Reason, Direct: direct}.Content()
	if err != nil {
		return Invite{}, err
	}
	var invite Invite
	// It adds nothing, so it ends when what it has read is committed.
	err = s.owners.Do(ctx, in.Room, func(ctx context.Context, st *owner.Step) error {
		if err := st.MustBeJoined(ctx, by.User); err != nil {
			return err
		}
		target := string(in.Target)
		invite, err = draftInvite(ctx, st, owner.Draft{Type: event.TypeMember, StateKey: &target, Sender: by.User, Content: content})
		return err
	})
	if err != nil {
		return invite, notThere(in.Room, err)
	}
	invite.Event, err = s.owners.Recommended(ctx, invite.room, invite.Event)
	return invite, err
}

// draftInvite makes the invite of a draft, with what tells the invited what the room is.
func draftInvite(ctx context.Context, st *owner.Step, d owner.Draft) (Invite, error) {
	if err := st.Admit(ctx, matrix.UserID(*d.StateKey).Server()); err != nil {
		return Invite{}, err
	}
	ev, err := st.Propose(ctx, d)
	if err != nil {
		return Invite{}, err
	}
	found, err := st.Lookup(ctx, append(event.StrippedKeys(), event.MemberKey(d.Sender))...)
	invite := Invite{Event: ev, room: st.Room()}
	for _, state := range found {
		if state != nil {
			invite.State = append(invite.State, state.Event)
		}
	}
	return invite, err
}

// A ThirdPartyInvite is the wish of a server that a user of its own be invited, to whom a user of ours has made an invite
// by address.
type ThirdPartyInvite struct {
	Room   matrix.RoomID
	Target matrix.UserID
	Signed []byte // by an identity server: that the address is the target's. A canonical JSON object
}

// DraftThirdPartyInvite makes the invite that follows from one by address. The user who made that one is of this server;
// of what others say, only what the identity server has signed becomes a part of the event.
// https://spec.matrix.org/v1.19/server-server-api/#third-party-invites
func (s *Users) DraftThirdPartyInvite(ctx context.Context, in ThirdPartyInvite) (Invite, error) {
	if _, err := s.owners.Residence(ctx, in.Room); err != nil {
		return Invite{}, err
	}
	token, _ := canonical.String(canonical.Get(in.Signed, "token"))
	var invite Invite
	err := s.owners.Do(ctx, in.Room, func(ctx context.Context, st *owner.Step) error {
		found, err := st.Lookup(ctx, event.Key{Type: event.TypeThirdPartyInvite, StateKey: token})
		if err != nil {
			return err
		}
		offer := found[0]
		if offer == nil || !s.owners.IsLocal(offer.Sender) {
			return matrix.Errorf(matrix.Forbidden, "nobody of this server has made such an invite to %s", in.Room)
		}
		content, err := in.content(offer.Text("display_name"))
		if err != nil {
			return err
		}
		target := string(in.Target)
		invite, err = draftInvite(ctx, st, owner.Draft{Type: event.TypeMember, StateKey: &target, Sender: offer.Sender, Content: content})
		return err
	})
	if err != nil {
		return invite, err
	}
	invite.Event, err = s.owners.Recommended(ctx, invite.room, invite.Event)
	return invite, err
}

// content is that of the invite: of what is signed, only the members that the specification knows, as others would not
// be proved to be harmless by a signature.
func (in ThirdPartyInvite) content(displayName string) ([]byte, error) {
	signed := make(map[string]json.RawMessage)
	for _, name := range []string{"mxid", "token", "signatures"} {
		if raw := canonical.Get(in.Signed, name); raw != nil {
			signed[name] = raw
		}
	}
	return canonical.Marshal(map[string]any{
		"membership":         event.Invite,
		"third_party_invite": map[string]any{"display_name": displayName, "signed": signed},
	})
}

// InviteSigned takes an invite of ours into its room, which now carries the signature of the server of the invited user.
// Both must be right: the one who calls has seen to that.
func (s *Users) InviteSigned(ctx context.Context, invite *event.Event) error {
	return s.owners.Do(ctx, invite.RoomID, func(ctx context.Context, st *owner.Step) error {
		result, err := st.Receive(ctx, invite)
		if err != nil {
			return err
		}
		if result.Outcome != owner.Accepted && result.Outcome != owner.Known {
			return owner.Forbidden(result.Err)
		}
		return nil
	})
}
