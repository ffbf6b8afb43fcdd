package resident

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// MakeJoin makes the template of a join, if the room now lets the user in. Into a restricted room, a user of this server
// vouches for it.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid
func (s *Host) MakeJoin(ctx context.Context, v Visit) (Template, error) {
	return s.template(ctx, v, event.Join)
}

// A Welcome is what a server that joins is given.
type Welcome struct {
	Join           *event.Event   // as it stands: with the signature of this server, if that vouches for it
	State          []*rooms.Event // before the join
	AuthChain      []*rooms.Event // of the join and of the state
	MembersOmitted bool           // of the members, only those are in the state whom it needs, or who name the room
	Servers        []matrix.ServerName
}

// SendJoin takes a join into its room, and returns the room as it was before: with omitMembers, of a large room without
// most of its members. Who repeats a join gets the same answer.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
func (s *Host) SendJoin(ctx context.Context, in Sent, omitMembers bool) (Welcome, error) {
	join, err := s.enter(ctx, in, event.Join)
	if err != nil {
		return Welcome{}, err
	}
	if join.StateUnknown {
		return Welcome{}, matrix.Errorf(matrix.UnableToGrantJoin, "this server does not know all of %s yet", in.Room)
	}
	room, err := s.owners.Room(ctx, in.Room)
	if err != nil {
		return Welcome{}, err
	}
	w := Welcome{Join: join.Event}
	if w.Servers, err = s.serversBefore(ctx, room, join); err != nil {
		return w, err
	}
	head, _, err := rooms.HeadOf(ctx, s.db, room.Num)
	if err != nil {
		return w, fmt.Errorf("find room %s: %w", in.Room, err)
	}
	before := s.owners.StateAt(room, join.StateBefore)
	if w.MembersOmitted = omitMembers && head.Joined > s.SmallRoom; w.MembersOmitted {
		w.State, err = s.partOf(ctx, before, join)
	} else {
		w.State, err = before.All(ctx)
	}
	if err != nil {
		return w, err
	}
	w.AuthChain, err = s.authChain(ctx, room, append(slices.Clone(w.State), join), omitMembers)
	return w, err
}

// smallRoom is how many members a room may have to be given as a whole also to who would do with less.
const smallRoom = 100

// serversBefore returns the servers in a room, that of a join among them only if it was there before.
func (s *Host) serversBefore(ctx context.Context, room rooms.Room, join *rooms.Event) ([]matrix.ServerName, error) {
	servers, err := rooms.ServersOf(ctx, s.db, room.Num)
	if err != nil {
		return nil, fmt.Errorf("find the servers in %s: %w", room.ID, err)
	}
	visitor := join.Sender.Server()
	there, err := rooms.JoinedOf(ctx, s.db, room.Num, visitor, 2)
	if err != nil {
		return nil, fmt.Errorf("find the members of %s: %w", room.ID, err)
	}
	return slices.DeleteFunc(servers, func(server matrix.ServerName) bool { return server == visitor && len(there) < 2 }), nil
}

// partOf is a state without most members: those stay by whom the join is judged, and those after whom a room without a
// name is called.
// https://spec.matrix.org/v1.19/client-server-api/#calculating-the-display-name-for-a-room
func (s *Host) partOf(ctx context.Context, before committed.State, join *rooms.Event) ([]*rooms.Event, error) {
	state, err := before.NonMembers(ctx)
	if err != nil {
		return nil, err
	}
	var keys []event.Key
	for _, key := range owner.NeededBy(join.Event) {
		if key.Type == event.TypeMember {
			keys = append(keys, key)
		}
	}
	named := slices.ContainsFunc(state, func(ev *rooms.Event) bool {
		return ev.StateID() == event.Key{Type: event.TypeName} || ev.StateID() == event.Key{Type: event.TypeCanonicalAlias}
	})
	if !named {
		heroes, err := rooms.HeroesOf(ctx, s.db, before.Room().Num)
		if err != nil {
			return nil, fmt.Errorf("find who %s is called after: %w", before.Room().ID, err)
		}
		for _, hero := range heroes.For(join.Sender) {
			if key := event.MemberKey(hero); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	found, err := before.Events(ctx, keys...)
	for _, ev := range found {
		if ev != nil {
			state = append(state, ev)
		}
	}
	return state, err
}

// authChain returns the auth chains of accepted events. Without the events themselves, as far as they are in the chains
// of each other, if those may be left out. The creation is in every chain, also of a room that is named after it, whose
// events do not list it: others look for it there.
func (s *Host) authChain(ctx context.Context, room rooms.Room, of []*rooms.Event, without bool) ([]*rooms.Event, error) {
	if len(of) <= fewEvents && without {
		if chain, whole, err := s.shortAuthChain(ctx, room, of); whole || err != nil {
			return chain, err
		}
	}
	cites := make(map[int64][]int64)
	err := rooms.EachAuthNode(ctx, s.db, room.Num, func(n rooms.AuthNode) error {
		cites[n.Num] = n.Auth
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the auth graph of %s: %w", room.ID, err)
	}
	given := make(map[int64]bool, len(of))
	var todo, chain []int64
	for _, ev := range of {
		given[ev.Num] = true
		todo = append(todo, ev.Num)
	}
	seen := make(map[int64]bool)
	for len(todo) > 0 {
		num := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, cited := range cites[num] {
			if seen[cited] {
				continue
			}
			seen[cited] = true
			if !given[cited] || !without {
				chain = append(chain, cited)
			}
			if !given[cited] {
				todo = append(todo, cited)
			}
		}
	}
	for _, ev := range of {
		if ev.Type == event.TypeCreate && !seen[ev.Num] && !without {
			chain = append(chain, ev.Num)
		}
	}
	return s.owners.Events(ctx, room, chain)
}

// Where few events are asked for, what authorises them is looked up event by event, so many levels deep; beyond that, the
// graph of the whole room is read.
const (
	fewEvents  = 500
	fewLevels  = 50
	fewInChain = 2000
)

// shortAuthChain is authChain without the events themselves. It is false if the chain is too long to be had in this way.
func (s *Host) shortAuthChain(ctx context.Context, room rooms.Room, of []*rooms.Event) (chain []*rooms.Event, whole bool, err error) {
	seen := make(map[matrix.EventID]bool, len(of))
	for _, ev := range of {
		seen[ev.ID] = true
	}
	level := of
	for range fewLevels {
		var ids []matrix.EventID
		for _, ev := range level {
			for _, id := range ev.AuthEvents {
				if !seen[id] {
					ids = append(ids, id)
				}
				seen[id] = true
			}
		}
		if len(ids) == 0 || len(chain) > fewInChain {
			return chain, len(ids) == 0, nil
		}
		if level, err = rooms.EventsByID(ctx, s.db, room, ids); err != nil {
			return nil, false, fmt.Errorf("read what authorises events of %s: %w", room.ID, err)
		}
		chain = append(chain, level...)
	}
	return nil, false, nil
}

// vouch gives a join the signature of this server, if it names one of our users who vouches for it. Nothing else is
// signed here, and that only if all is as MakeJoin would have it now: Sent.check has seen what it is, and the current
// state must allow it.
func (s *Host) vouch(ctx context.Context, st *owner.Step, ev *event.Event) (*event.Event, error) {
	via, named := ev.JoinAuthoriser()
	if !named || ev.Membership() != event.Join {
		return ev, nil
	}
	switch {
	case !s.owners.IsLocal(via):
		return nil, matrix.Errorf(matrix.InvalidParam, "the join must be vouched for by a user of %s", s.name)
	case !member.IsRestricted(st):
		return nil, matrix.Errorf(matrix.Forbidden, "nobody vouches for joins to %s", st.Room().ID)
	}
	if err := member.MeetsCondition(ctx, st, ev.Sender); err != nil {
		return nil, err
	}
	may, err := member.MayInvite(ctx, st, via)
	if err != nil {
		return nil, err
	}
	if !may {
		return nil, matrix.Errorf(matrix.UnableToGrantJoin, "%s may not invite to %s", via, st.Room().ID)
	}
	why, err := st.Allows(ctx, ev)
	if err != nil {
		return nil, err
	}
	if why != nil {
		return nil, owner.Forbidden(why)
	}
	return ev.Sign(s.name, s.key)
}

// voucher finds the user of this server who vouches for one that would join a restricted room; empty where nobody needs
// to.
// https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms
func voucher(ctx context.Context, st *owner.Step, user matrix.UserID) (matrix.UserID, error) {
	if !member.IsRestricted(st) {
		return "", nil
	}
	before, _, err := st.Member(ctx, user)
	if err != nil || before == event.Join || before == event.Invite {
		return "", err
	}
	if before == event.Ban {
		return "", matrix.Errorf(matrix.Forbidden, "%s is banned from %s", user, st.Room().ID)
	}
	return member.VoucherFor(ctx, st, user)
}
