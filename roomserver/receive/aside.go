package receive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Rooms that no user of this server is in have no owner, and no state that could be relied on. How our users stand to
// them, by an invite or a knock, is kept beside them.

// An Aside is a membership event of a user of this server in a room that this server is not in.
type Aside struct {
	Event    *event.Event
	Stripped []byte              // of an invite or a knock
	ends     int64               // number of the invite or knock that it ends; 0: none
	unheard  []matrix.ServerName // of a leave of which these servers of the room are still to hear
}

// SetAside stores an aside and tells the user, unless this server is in the room, which then has an owner whose business
// it is. Repeating it changes nothing.
func (s *Receiver) SetAside(ctx context.Context, in Aside) (resident bool, err error) {
	// Nobody adopts the room meanwhile.
	s.inbox.admit(in.Event.RoomID, nil)
	defer s.inbox.leave(in.Event.RoomID, nil)
	done, err := s.inbox.fetchAlone(ctx, in.Event.RoomID)
	if err != nil {
		return false, err
	}
	defer done()
	_, err = s.owners.Residence(ctx, in.Event.RoomID)
	if !committed.IsNotHere(err) {
		return err == nil, err
	}
	w, err := s.asideWrite(ctx, in)
	if err != nil || w.Known && (w.Event.Kind == rooms.Aside || !w.Event.HasNoPlace()) {
		return false, err // it was set aside before, or the room itself has it, and its own word counts
	}
	if _, err = s.db.Commit(ctx, w); err != nil {
		return false, fmt.Errorf("store a membership of %s: %w", in.Event.RoomID, err)
	}
	return false, nil
}

// unlessOver drops the error that there is nothing to end any more: the room itself has the user banned by now, say, and
// what it has stands.
func unlessOver(err error) error {
	if errors.Is(err, rooms.ErrAsideOver) {
		return nil
	}
	return err
}

// asideWrite is what is to be stored.
func (s *Receiver) asideWrite(ctx context.Context, in Aside) (w rooms.SetAside, err error) {
	ev := in.Event
	room, found, err := rooms.ByID(ctx, s.db, ev.RoomID)
	switch {
	case err != nil:
		return w, fmt.Errorf("find room %s: %w", ev.RoomID, err)
	case !found:
		w.NewRoom = true
		room = rooms.Room{Num: s.db.NextNumber(), ID: ev.RoomID, Version: ev.Version}
	case room.Version != ev.Version:
		if room, err = s.otherVersion(ctx, room, ev); err != nil {
			return w, err
		}
	}
	w.Room = room
	if w.Event, w.Known, err = rooms.EventByID(ctx, s.db, room, ev.ID); err != nil {
		return w, fmt.Errorf("find event %s: %w", ev.ID, err)
	}
	if w.Known && w.Event.ReferenceHash() != ev.ReferenceHash() {
		return w, matrix.Errorf(matrix.InvalidParam, "there is another event %s", ev.ID)
	}
	if !w.Known {
		w.Event = &rooms.Event{
			Event: ev, Num: s.db.NextNumber(), RoomNum: room.Num, Kind: rooms.Aside, StateUnknown: true,
		}
	}
	w.Membership = rooms.Membership{
		RoomNum: room.Num, Room: room.ID, User: ev.Target(), Membership: ev.Membership(), EventNum: w.Event.Num,
		Stripped: in.Stripped,
	}
	w.Ends = in.ends
	if len(in.unheard) > 0 {
		w.Unheard = &rooms.UnheardLeave{Room: room, User: ev.Target(), Servers: in.unheard, SinceMS: s.now().UnixMilli()}
	}
	return w, nil
}

// A Standing is how a user of this server stands to a room that this server may be in or not.
type Standing struct {
	Resident   bool // this server is in the room, and nobody else is asked
	Lived      bool // it is or was in the room
	Restricted bool // of a partial room: users are vouched for
	Version    *event.Version
	Membership event.Membership
	Inviter    matrix.UserID       // if the membership is invite
	Servers    []matrix.ServerName // that may be in the room
	Host       matrix.ServerName   // of a partial room that this server is in: through which it came in; else empty
	invite     *rooms.Event        // or knock
}

// Standing tells how a user stands to a room, of which perhaps nothing is known.
func (s *Receiver) Standing(ctx context.Context, user matrix.UserID, id matrix.RoomID) (Standing, error) {
	room, found, err := rooms.ByID(ctx, s.db, id)
	if err != nil {
		return Standing{}, fmt.Errorf("find room %s: %w", id, err)
	}
	if !found {
		return Standing{}, nil
	}
	st, err := s.standing(ctx, room, user)
	if err != nil {
		return st, err
	}
	joined, err := rooms.JoinedServers(ctx, s.db, room.Num, maxKnownServers)
	if err != nil {
		return st, fmt.Errorf("find the servers in %s: %w", id, err)
	}
	st.Servers = append(st.Servers, joined...)
	join, wasPartial, err := rooms.LatestPartial(ctx, s.db, room.Num)
	if err != nil {
		return st, fmt.Errorf("find the servers in %s: %w", id, err)
	}
	if wasPartial && len(joined) < maxKnownServers {
		st.Servers = append(st.Servers, join.Servers...)
	}
	if _, st.Lived, err = rooms.HeadOf(ctx, s.db, room.Num); err != nil {
		return st, fmt.Errorf("find room %s: %w", id, err)
	}
	st.Resident, err = s.livesHere(ctx, room, st.Lived && len(joined) == 0)
	if err == nil && st.Resident && wasPartial && join.Until == 0 {
		st.Host = join.Servers[0]
		st.Restricted, err = s.isRestricted(ctx, room)
	}
	return st, err
}

// isRestricted says whether a room lets in, now, who is in another room.
func (s *Receiver) isRestricted(ctx context.Context, room rooms.Room) (bool, error) {
	now, err := s.owners.Current(ctx, room.ID)
	if err != nil {
		return false, err
	}
	rule, err := now.Event(ctx, event.JoinRulesKey)
	return room.Version.Restricts(rule.Text("join_rule")), err
}

// maxKnownServers bounds the servers that are asked for a room that this one has left.
const maxKnownServers = 50

// livesHere says whether a room is this server's to act in: a user of ours is in it, or nobody at all, which is not known of
// one that was left before it was whole.
func (s *Receiver) livesHere(ctx context.Context, room rooms.Room, empty bool) (bool, error) {
	_, err := s.owners.Residence(ctx, room.ID)
	if err == nil || !committed.IsNotHere(err) || !empty {
		return err == nil, unlessNoRoom(err)
	}
	now, err := s.owners.Current(ctx, room.ID)
	if err != nil {
		return false, err
	}
	lacks, err := now.LacksMembers(ctx)
	return !lacks && err == nil, err
}

// unlessNoRoom drops the error that this server is not in a room.
func unlessNoRoom(err error) error {
	if committed.IsNotHere(err) {
		return nil
	}
	return err
}

// standing reads the membership.
func (s *Receiver) standing(ctx context.Context, room rooms.Room, user matrix.UserID) (Standing, error) {
	st := Standing{Version: room.Version}
	m, found, err := rooms.MembershipOf(ctx, s.db, room.Num, user)
	if err != nil {
		return st, fmt.Errorf("find the membership of %s in %s: %w", user, room.ID, err)
	}
	if !found {
		return st, nil
	}
	st.Membership = m.Membership
	if m.Membership != event.Invite && m.Membership != event.Knock {
		return st, nil
	}
	st.Servers = sendersIn(m.Stripped)
	events, err := rooms.EventsByNumber(ctx, s.db, room, []int64{m.EventNum})
	if err != nil {
		return st, fmt.Errorf("read the membership of %s in %s: %w", user, room.ID, err)
	}
	for _, ev := range events {
		if st.invite = ev; m.Membership == event.Invite {
			st.Inviter = ev.Sender
		}
	}
	return st, nil
}

// sendersIn returns the servers of those who made what an invite or a knock tells of its room: they may be in it.
func sendersIn(stripped []byte) []matrix.ServerName {
	var servers []matrix.ServerName
	if len(stripped) == 0 {
		return nil
	}
	for ev := range canonical.Elements(stripped) {
		sender, _ := canonical.String(canonical.Get(ev, "sender"))
		if server := matrix.UserID(sender).Server(); server != "" && !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return servers
}

// Left stores that a user of this server has left a room that this server is not in: an invite was rejected, a knock
// taken back. The leave is the one that a resident server has taken; nil if none could be reached: the user is rid of
// the invite all the same, and UnheardLeaves has it until one has heard of it.
func (s *Receiver) Left(ctx context.Context, user matrix.UserID, id matrix.RoomID, leave *event.Event) error {
	before, err := s.Standing(ctx, user, id)
	switch {
	case err != nil:
		return err
	case before.invite == nil && leave == nil:
		return matrix.Errorf(matrix.Forbidden, "%s is not invited to %s", user, id)
	case before.invite == nil:
		return nil // it was ended meanwhile
	}
	in := Aside{Event: leave, ends: before.invite.Num}
	if leave == nil {
		if in.Event, err = s.lonelyLeave(before.invite.Event); err != nil {
			return err
		}
		in.unheard = append([]matrix.ServerName{before.Inviter.Server()}, before.Servers...)
	}
	_, err = s.SetAside(ctx, in)
	return unlessOver(err)
}

// DropAside rids a user of an invite that the room, in which others of this server are by now, knows nothing of: it was
// false, or is taken back. It says whether there was one.
func (s *Receiver) DropAside(ctx context.Context, user matrix.UserID, id matrix.RoomID) (bool, error) {
	before, err := s.Standing(ctx, user, id)
	if err != nil || before.invite == nil {
		return false, err
	}
	leave, err := s.lonelyLeave(before.invite.Event)
	if err != nil {
		return false, err
	}
	w, err := s.asideWrite(ctx, Aside{Event: leave, ends: before.invite.Num})
	if err != nil {
		return false, err
	}
	if _, err := s.db.Commit(ctx, w); unlessOver(err) != nil {
		return false, fmt.Errorf("drop the invite of %s to %s: %w", user, id, err)
	}
	return true, nil
}

// lonelyLeave makes the leave that follows an invite or knock where nobody else hears of it.
func (s *Receiver) lonelyLeave(invite *event.Event) (*event.Event, error) {
	target := string(invite.Target())
	return event.Build(invite.Version, event.Proto{
		Type: event.TypeMember, StateKey: &target, Sender: invite.Target(), RoomID: invite.RoomID,
		Content:    []byte(`{"membership":"leave"}`),
		PrevEvents: []matrix.EventID{invite.ID}, AuthEvents: []matrix.EventID{invite.ID},
		Depth: invite.Depth + 1, OriginServerTS: s.now().UnixMilli(),
		ReferenceHashes: map[matrix.EventID][sha256.Size]byte{invite.ID: invite.ReferenceHash()},
	}, s.name, s.key)
}

// Knocked stores that a user of this server has knocked on a room that this server is not in, with the state that the
// resident server told for it.
func (s *Receiver) Knocked(ctx context.Context, knock *event.Event, state []*event.Event) error {
	var told []json.RawMessage
	for _, ev := range state {
		if ev.RoomID == knock.RoomID && ev.IsState() {
			told = append(told, ev.AppendStripped(nil))
		}
	}
	_, err := s.SetAside(ctx, Aside{Event: knock, Stripped: StrippedOf(knock, told)})
	return err
}

// otherVersion takes up a room under the version of an event, in the place of the one that it was first told of with:
// either may be false. What was told before is forgotten, so that is not done if this server has been in the room, or if
// the invite or knock of somebody else would be lost with it: then others would undo with a false invite what a true one
// has done.
func (s *Receiver) otherVersion(ctx context.Context, room rooms.Room, ev *event.Event) (rooms.Room, error) {
	refused := matrix.Errorf(matrix.InvalidParam, "%s has version %s", ev.RoomID, room.Version.ID)
	if m := ev.Membership(); m != event.Invite && m != event.Knock {
		return room, refused
	}
	_, lived, err := rooms.HeadOf(ctx, s.db, room.Num)
	if err != nil || lived {
		return room, cmp.Or(err, error(refused))
	}
	standing, err := rooms.MembersOf(ctx, s.db, room.Num, event.Invite, event.Knock)
	if err != nil {
		return room, fmt.Errorf("find who is invited to %s: %w", room.ID, err)
	}
	if slices.ContainsFunc(standing, func(m rooms.Membership) bool { return m.User != ev.Target() }) {
		return room, refused
	}
	return s.owners.BeginAnew(ctx, rooms.Room{Num: room.Num, ID: room.ID, Version: ev.Version})
}

// StrippedOf is what the target of an invite or a knock is shown of the room: a JSON array of stripped events that ends
// with the event itself, in the place of which none of them stands.
func StrippedOf(ev *event.Event, state []json.RawMessage) []byte {
	list := []byte{'['}
	for _, raw := range state {
		typ, _ := canonical.String(canonical.Get(raw, "type"))
		key, _ := canonical.String(canonical.Get(raw, "state_key"))
		if ev.StateID() != (event.Key{Type: typ, StateKey: key}) && len(list)+len(raw) <= owner.MaxStrippedBytes {
			list = append(append(list, raw...), ',')
		}
	}
	return append(ev.AppendStripped(list), ']')
}
