package resident

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A Visit is a user of another server who wants to come into a room that this server is in, or to leave it.
type Visit struct {
	Origin   matrix.ServerName // who asks
	Room     matrix.RoomID
	User     matrix.UserID
	Versions []matrix.RoomVersion // that the origin knows; nobody asks for those of one that leaves
}

// A Template is a membership event to be: all but the time, the hashes and the signature of who makes it.
type Template struct {
	Version *event.Version
	Event   []byte // JSON
}

// A Sent event is the membership event that a server has made of a template. It has passed event.Parse for the version
// of the room, and carries a valid signature of its sender's server. If it names a user of this server who vouches for
// the join, it lacks the signature of this server, which it gets here.
type Sent struct {
	Origin matrix.ServerName
	Room   matrix.RoomID  // that the request names
	ID     matrix.EventID // that the request names
	Event  *event.Event
}

// template makes the template of a visit, from what is committed of the room.
func (s *Host) template(ctx context.Context, v Visit, membership event.Membership) (Template, error) {
	room, err := s.owners.Residence(ctx, v.Room)
	switch {
	case err != nil:
		return Template{}, err
	case v.User.Server() != v.Origin:
		return Template{}, matrix.Errorf(matrix.Forbidden, "%s is not a user of %s", v.User, v.Origin)
	case membership != event.Leave && !slices.Contains(v.Versions, room.Version.ID):
		return Template{}, matrix.Errorf(matrix.IncompatibleRoomVersion, "%s has version %s, which %s does not know", v.Room, room.Version.ID, v.Origin).
			With("room_version", room.Version.ID)
	}
	if err := s.refusePartial(ctx, room); err != nil {
		return Template{}, err
	}
	t := Template{Version: room.Version}
	// A task that adds nothing ends when what it has read is committed.
	err = s.owners.Do(ctx, room.ID, func(ctx context.Context, st *owner.Step) error {
		if err := st.Admit(ctx, v.Origin); err != nil {
			return err
		}
		change := member.Change{Target: v.User, Membership: membership}
		if membership == event.Join {
			if change.Via, err = voucher(ctx, st, v.User); err != nil {
				return err
			}
		}
		t.Event, err = templateOf(ctx, st, change)
		return err
	})
	return t, err
}

// templateOf drafts the event of a change that the target makes itself, if the current state allows it.
func templateOf(ctx context.Context, st *owner.Step, c member.Change) ([]byte, error) {
	content, err := c.Content()
	if err != nil {
		return nil, err
	}
	target := string(c.Target)
	d := owner.Draft{Type: event.TypeMember, StateKey: &target, Sender: c.Target, Content: content}
	on, err := st.Basis(ctx, d)
	if err != nil {
		return nil, err
	}
	obj, err := unsigned(st, d, on)
	if err != nil {
		return nil, err
	}
	ev, err := event.Load(st.Room().Version, "", obj)
	if err != nil {
		return nil, err
	}
	if err := st.Authorise(ev, on); err != nil {
		return nil, err
	}
	return obj, nil
}

// unsigned writes what an event will be made of.
func unsigned(st *owner.Step, d owner.Draft, on owner.Basis) ([]byte, error) {
	depth := int64(1)
	for _, ev := range on.Prev {
		depth = min(max(depth, ev.Depth+1), st.Room().Version.MaxDepth)
	}
	content := json.RawMessage(d.Content)
	return canonical.Marshal(map[string]any{
		"type": d.Type, "room_id": st.Room().ID, "sender": d.Sender, "state_key": *d.StateKey, "content": content,
		"depth": depth, "origin_server_ts": st.NowMS(), "origin": d.Sender.Server(),
		"prev_events": references(st.Room().Version, on.Prev), "auth_events": references(st.Room().Version, on.Auth),
	})
}

// references writes a list of events as the room version does.
func references(v *event.Version, events []*rooms.Event) []any {
	list := make([]any, len(events))
	for i, ev := range events {
		if list[i] = any(ev.ID); v.References == event.HashedReferences {
			hash := ev.ReferenceHash()
			list[i] = []any{ev.ID, map[string]string{"sha256": signing.EncodeBase64(hash[:])}}
		}
	}
	return list
}

// check holds an event against what it was sent as: the membership that its sender gives itself, and nothing else.
func (in Sent) check(room rooms.Room, want event.Membership) error {
	bad := func(format string, args ...any) error {
		return matrix.Errorf(matrix.InvalidParam, format, args...)
	}
	ev := in.Event
	switch {
	case ev.RoomID != in.Room:
		return bad("the event is of %s, not of %s", ev.RoomID, in.Room)
	case ev.Version != room.Version:
		return bad("%s has version %s", in.Room, room.Version.ID)
	case ev.ID != in.ID:
		return bad("the event is %s, not %s", ev.ID, in.ID)
	case ev.Redacted:
		return bad("the content hash of the event is wrong")
	case ev.Type != event.TypeMember || !ev.IsState() || ev.Membership() != want:
		return bad("not a member event of membership %s", want)
	case ev.Sender != ev.Target():
		return bad("the sender %s is not the state key", ev.Sender)
	case ev.Sender.Server() != in.Origin:
		return bad("%s is not a user of %s", ev.Sender, in.Origin)
	}
	return nil
}

// enter takes a sent event into its room through the stations of Receive. What is refused is not stored: its sender is
// told. Who has sent it before is told that it is there. What it stands on was named by a template of ours, so that
// nothing is fetched for it.
func (s *Host) enter(ctx context.Context, in Sent, want event.Membership) (*rooms.Event, error) {
	room, err := s.owners.Residence(ctx, in.Room)
	if err != nil {
		return nil, err
	}
	if err := in.check(room, want); err != nil {
		return nil, err
	}
	if err := s.refusePartial(ctx, room); err != nil {
		return nil, err
	}
	if in.Event, err = s.owners.Recommended(ctx, room, in.Event); err != nil {
		return nil, err
	}
	var entered *rooms.Event
	err = s.owners.Do(ctx, room.ID, func(ctx context.Context, st *owner.Step) (err error) {
		if entered, err = s.take(ctx, st, in); err != nil {
			return err
		}
		return st.JoinExtremities(ctx)
	})
	return entered, err
}

// take is the part of the owner.
func (s *Host) take(ctx context.Context, st *owner.Step, in Sent) (*rooms.Event, error) {
	if err := st.Admit(ctx, in.Origin); err != nil {
		return nil, err
	}
	if had, err := entered(ctx, st, in.Event.ID); had != nil || err != nil {
		return had, err
	}
	ev, err := s.vouch(ctx, st, in.Event)
	if err != nil {
		return nil, err
	}
	result, err := st.Receive(ctx, ev)
	switch {
	case err != nil:
		return nil, err
	case result.Outcome == owner.Missing:
		return nil, matrix.Errorf(matrix.InvalidParam, "the event stands on events that are not in a template of %s", s.name)
	case result.Outcome != owner.Accepted:
		return nil, owner.Forbidden(result.Err)
	}
	return st.Relay(), nil
}

// entered returns an event that is in the room already; nil if it is not, or has not found its place there.
func entered(ctx context.Context, st *owner.Step, id matrix.EventID) (*rooms.Event, error) {
	found, err := st.Find(ctx, id)
	if err != nil || found[0] == nil || found[0].HasNoPlace() {
		return nil, err
	}
	if kind := found[0].Kind; kind != rooms.Live && kind != rooms.Backfilled {
		return nil, matrix.Errorf(matrix.Forbidden, "%s was refused before", id)
	}
	return found[0], nil
}

// refusePartial refuses other servers what this one could not answer for yet.
func (s *Host) refusePartial(ctx context.Context, room rooms.Room) error {
	partial, err := s.owners.IsPartial(ctx, room)
	if err == nil && partial {
		err = matrix.Errorf(matrix.NotFound, "this server does not know all of %s yet", room.ID)
	}
	return err
}
