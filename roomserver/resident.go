package roomserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
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

// residence returns a room that a user of this server is in: NotFound otherwise, whatever else is known of the room.
func (s *Server) residence(ctx context.Context, id matrix.RoomID) (rooms.Room, error) {
	room, err := s.Room(ctx, id)
	if err != nil {
		return room, err
	}
	present, err := rooms.JoinedOf(ctx, s.db, room.Num, s.name, 1)
	if err != nil {
		return room, fmt.Errorf("find the members of %s: %w", id, err)
	}
	if len(present) == 0 {
		return room, noRoomError{matrix.Errorf(matrix.NotFound, "this server is not in %s", id)}
	}
	return room, nil
}

// template makes the template of a visit, from what is committed of the room.
func (s *Server) template(ctx context.Context, v Visit, membership event.Membership) (Template, error) {
	room, err := s.residence(ctx, v.Room)
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
	err = s.do(ctx, room.ID, func(ctx context.Context, st *step) error {
		if err := st.admit(ctx, v.Origin); err != nil {
			return err
		}
		change := memberChange{target: v.User, membership: membership}
		if membership == event.Join {
			if change.via, err = st.voucher(ctx, v.User); err != nil {
				return err
			}
		}
		t.Event, err = st.templateOf(ctx, change)
		return err
	})
	return t, err
}

// admit refuses a server that the room shuts out.
// https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls
func (st *step) admit(ctx context.Context, server matrix.ServerName) error {
	found, err := st.lookup(ctx, event.Key{Type: typeServerACL})
	if err != nil || found[0] == nil {
		return err
	}
	if !event.ParseServerACL(found[0].Content).Permits(server) {
		return matrix.Errorf(matrix.Forbidden, "%s may not take part in %s", server, st.room.ID)
	}
	return nil
}

// templateOf drafts the event of a change that the target makes itself, if the current state allows it.
func (st *step) templateOf(ctx context.Context, c memberChange) ([]byte, error) {
	content, err := c.content()
	if err != nil {
		return nil, err
	}
	target := string(c.target)
	d := draft{typ: event.TypeMember, stateKey: &target, sender: c.target, content: content}
	known, err := st.authState(ctx, st.tip.state, d)
	if err != nil {
		return nil, err
	}
	obj, err := st.unsigned(d, known)
	if err != nil {
		return nil, err
	}
	ev, err := event.Load(st.room.Version, "", obj)
	if err != nil {
		return nil, err
	}
	if err := st.authorise(ev, known); err != nil {
		return nil, forbidden(err)
	}
	return obj, nil
}

// unsigned writes what an event will be made of.
func (st *step) unsigned(d draft, known authState) ([]byte, error) {
	depth := int64(1)
	var follows []*rooms.Event
	for _, ev := range st.follows() {
		follows = append(follows, ev.Event)
		depth = min(max(depth, ev.Depth+1), st.room.Version.MaxDepth)
	}
	content := json.RawMessage(d.content)
	return canonical.Marshal(map[string]any{
		"type": d.typ, "room_id": st.room.ID, "sender": d.sender, "state_key": *d.stateKey, "content": content,
		"depth": depth, "origin_server_ts": st.nowMS, "origin": d.sender.Server(),
		"prev_events": references(st.room.Version, follows), "auth_events": references(st.room.Version, known.selected),
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
func (s *Server) enter(ctx context.Context, in Sent, want event.Membership) (*rooms.Event, error) {
	room, err := s.residence(ctx, in.Room)
	if err != nil {
		return nil, err
	}
	if err := in.check(room, want); err != nil {
		return nil, err
	}
	if err := s.refusePartial(ctx, room); err != nil {
		return nil, err
	}
	if in.Event, err = s.recommendedIn(ctx, room, in.Event); err != nil {
		return nil, err
	}
	var entered *rooms.Event
	err = s.do(ctx, room.ID, func(ctx context.Context, st *step) (err error) {
		if entered, err = st.enter(ctx, in); err != nil {
			return err
		}
		return st.joinExtremities(ctx)
	})
	return entered, err
}

// enter is the part of the owner.
func (st *step) enter(ctx context.Context, in Sent) (*rooms.Event, error) {
	if err := st.admit(ctx, in.Origin); err != nil {
		return nil, err
	}
	if had, err := st.entered(ctx, in.Event.ID); had != nil || err != nil {
		return had, err
	}
	ev, err := st.vouch(ctx, in.Event)
	if err != nil {
		return nil, err
	}
	result, err := st.receive(ctx, ev)
	switch {
	case err != nil:
		return nil, err
	case result.Outcome == Missing:
		return nil, matrix.Errorf(matrix.InvalidParam, "the event stands on events that are not in a template of %s", st.server.name)
	case result.Outcome != Accepted:
		return nil, forbidden(result.Err)
	}
	last := st.events[len(st.events)-1].Event
	last.Relayed = true // nobody else has it yet
	return last, nil
}

// entered returns an event that is in the room already; nil if it is not, or has not found its place there.
func (st *step) entered(ctx context.Context, id matrix.EventID) (*rooms.Event, error) {
	found, err := st.find(ctx, id)
	if err != nil || found[0] == nil || hasNoPlace(found[0]) {
		return nil, err
	}
	if kind := found[0].Kind; kind != rooms.Live && kind != rooms.Backfilled {
		return nil, matrix.Errorf(matrix.Forbidden, "%s was refused before", id)
	}
	return found[0], nil
}
