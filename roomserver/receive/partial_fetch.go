package receive

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A memberFetch fetches the members of a room as they were before our join.
type memberFetch struct {
	*fetch
	join   rooms.PartialJoin
	at     matrix.EventID // the state before it is asked for,
	follow bool           // and it follows that state itself
	strict bool           // members are not left out because what authorises them is not had
	create *rooms.Event
}

// maxStrictTries is how often a state is passed over of which some events cannot be stored. Then it is taken without them, as
// that of a join that tells all members is.
const maxStrictTries = 8

// memberChunk is how many members are stored in one step of the owner.
const memberChunk = 500

// fetchMembers fetches the members that a join has not told, and fills the hole in the states with them.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
func (s *Receiver) fetchMembers(ctx context.Context, room rooms.Room, join rooms.PartialJoin, try int) error {
	joins, err := s.owners.Events(ctx, room, []int64{join.Join})
	if err != nil {
		return err
	}
	f := &memberFetch{fetch: s.newFetch(room, "", nil), join: join, at: joins[0].ID, strict: try < maxStrictTries}
	if prev := joins[0].PrevEvents; len(prev) == 1 {
		// All servers in the room have this one, and state_ids of a join may be refused by who has not seen it.
		f.at, f.follow = prev[0], true
	}
	servers, err := s.tellMembers(ctx, join)
	if err != nil {
		return err
	}
	f.peers = askedForMembers(servers, try)
	if f.create, err = f.createEvent(ctx); err != nil {
		return err
	}
	for _, server := range f.peers {
		ids, err := f.from(ctx, server)
		if err != nil {
			return err
		}
		if ids == nil {
			continue
		}
		if filled, err := f.fill(ctx, ids); filled || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrNoMembers, room.ID)
}

// tellMembers returns the servers that may tell the members: the one that let us in, those of which users have come since,
// and the others that were named with the join, of which not all need be in the room.
func (s *Receiver) tellMembers(ctx context.Context, join rooms.PartialJoin) (servers []matrix.ServerName, err error) {
	since, err := rooms.JoinedServers(ctx, s.db, join.RoomNum, maxPeersRead)
	if err != nil {
		return nil, fmt.Errorf("find the servers in room %d: %w", join.RoomNum, err)
	}
	first := join.Servers[:min(1, len(join.Servers))]
	listed := map[matrix.ServerName]bool{s.name: true}
	for _, server := range slices.Concat(first, since, join.Servers) {
		if !listed[server] {
			servers = append(servers, server)
		}
		listed[server] = true
	}
	return servers, nil
}

// from has a server tell the state before the join, and stores what of it is not here. It returns the IDs of the state, nil
// if it cannot be had from there.
func (f *memberFetch) from(ctx context.Context, server matrix.ServerName) ([]matrix.EventID, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	answer, err := f.receiver.remote.StateIDs(ctx, server, f.room, f.at)
	if err != nil || len(answer.State)+len(answer.Auth) > maxStateEvents || !slices.Contains(answer.State, f.create.ID) {
		return nil, nil
	}
	keys, missing, err := f.stateKeys(ctx, answer.State)
	if err != nil {
		return nil, err
	}
	clear(f.fetched)
	f.outliers = nil
	refused := f.fetchMissing(ctx, server, missing)
	lacks := 0
	for _, id := range missing {
		ev := f.fetched[id]
		switch {
		case ev == nil:
			lacks++
		case !ev.IsState() || keys[ev.StateID()] != "":
			return nil, nil
		default:
			keys[ev.StateID()] = id
		}
	}
	if lacks > refused || len(keys)+lacks != len(answer.State) {
		return nil, nil // it has not given what it told of, or two for one place
	}
	last, whole := f.lastEvent(ctx, server, keys)
	if !whole {
		return nil, nil
	}
	if err := f.fetchAuthEvents(ctx); err != nil {
		return nil, err
	}
	if err := f.storeMembers(ctx); err != nil {
		return nil, err
	}
	ids := append(answer.State, last...)
	stored, err := f.receiver.owners.StateRows(ctx, f.room, ids)
	if err != nil || f.strict && len(stored)+lacks < len(ids) {
		return nil, err // what authorises some could not be had just now
	}
	return ids, nil
}

// fetchMissing fetches events of the state. It returns how many the server gave that were refused: their signatures cannot
// be checked, as may be of servers that are gone. They are left out, as they are of a join that tells all members.
func (f *memberFetch) fetchMissing(ctx context.Context, server matrix.ServerName, missing []matrix.EventID) (refused int) {
	if len(missing) <= maxSingleAsked {
		f.fetchStateEvents(ctx, server, f.at, missing)
		missing = slices.DeleteFunc(slices.Clone(missing), func(id matrix.EventID) bool { return f.fetched[id] != nil })
	}
	if len(missing) == 0 {
		return 0
	}
	answer, err := f.receiver.remote.State(ctx, server, f.room, f.at)
	if err != nil || len(answer.State)+len(answer.Auth) > maxStateEvents {
		return 0
	}
	f.takeState(missing, answer)
	return answer.Refused
}

// lastEvent fetches the event that follows the state, if that is how it is asked for: state takes its place in the state. It
// is false if the event cannot be had.
func (f *memberFetch) lastEvent(ctx context.Context, server matrix.ServerName, keys map[event.Key]matrix.EventID) ([]matrix.EventID, bool) {
	if !f.follow {
		return nil, true
	}
	if had := f.Here(f.at); had == nil && f.fetched[f.at] == nil {
		if err := f.Look(ctx, []matrix.EventID{f.at}); err != nil {
			return nil, false
		}
	}
	ev := f.event(ctx, server, f.at)
	if ev == nil {
		return nil, false
	}
	if !ev.IsState() || keys[ev.StateID()] == ev.ID {
		return nil, true
	}
	f.addOutlier(ev)
	return []matrix.EventID{ev.ID}, true
}

// storeMembers lets the owner store what was fetched, a part at a time, each event after those that authorise it.
func (f *memberFetch) storeMembers(ctx context.Context) error {
	for some := range slices.Chunk(event.AuthOrder(f.outliers), f.receiver.MemberChunk) {
		known := f.receiver.owners.NewHints(f.room, len(some))
		known.Begin()
		var ids []matrix.EventID
		for _, ev := range some {
			ids = append(append(ids, ev.ID), ev.AuthEvents...)
		}
		if err := known.Look(ctx, ids); err != nil {
			return err
		}
		known.ElsewhereAs(f.Hints)
		err := f.receiver.owners.Do(ctx, f.room.ID, func(ctx context.Context, st *owner.Step) error {
			st.Take(known)
			return st.AddOutliers(ctx, some)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fill makes the members that are stored the members of the hole. Of two in one place the later in ids counts. It is false
// if there are none, which is not true of any room.
func (f *memberFetch) fill(ctx context.Context, ids []matrix.EventID) (bool, error) {
	rows, err := f.receiver.owners.StateRows(ctx, f.room, ids)
	if err != nil {
		return false, err
	}
	at := make(map[event.Key]rooms.StateRow, len(rows))
	for _, id := range ids {
		if row, ok := rows[id]; ok && row.Accepted && row.Key.Type == event.TypeMember {
			at[row.Key] = row
		}
	}
	if len(at) == 0 {
		return false, nil
	}
	if err := f.importMembers(ctx, at); err != nil {
		return false, err
	}
	if f.join.Members, err = f.receiver.owners.StoreMembers(ctx, f.room, at); err != nil {
		return false, err
	}
	if _, err := f.receiver.db.Commit(ctx, rooms.FillHole{Join: f.join}); err != nil {
		return false, fmt.Errorf("store the members of %s: %w", f.room.ID, err)
	}
	return true, nil
}

// importMembers stores memberships, and counts them. Those that have changed since the join stay as they are.
func (f *memberFetch) importMembers(ctx context.Context, at map[event.Key]rooms.StateRow) error {
	all := make([]rooms.StateRow, 0, len(at))
	for _, row := range at {
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b rooms.StateRow) int { return cmp.Compare(a.Num, b.Num) }) // the same whenever it is done again
	f.join.Joined, f.join.Invited = 0, 0
	for some := range slices.Chunk(all, owner.MaxRows) {
		events, err := f.membersIn(ctx, some)
		if err != nil {
			return err
		}
		members := make([]rooms.Membership, len(events))
		for i, ev := range events {
			switch ev.Membership() {
			case event.Join:
				f.join.Joined++
			case event.Invite:
				f.join.Invited++
			}
			members[i] = rooms.Membership{
				RoomNum: f.room.Num, Room: f.room.ID, User: ev.Target(), Membership: ev.Membership(), EventNum: some[i].Num,
			}
		}
		if _, err := f.receiver.db.Commit(ctx, rooms.ImportMembers{Members: members, Late: true}); err != nil {
			return fmt.Errorf("store the members of %s: %w", f.room.ID, err)
		}
	}
	return nil
}

// membersIn returns the events of rows, in their order.
func (f *memberFetch) membersIn(ctx context.Context, rows []rooms.StateRow) ([]*event.Event, error) {
	found := make([]*event.Event, len(rows))
	var nums []int64
	for i, row := range rows {
		if found[i] = f.fetched[row.ID]; found[i] == nil {
			nums = append(nums, row.Num)
		}
	}
	stored, err := f.receiver.owners.Events(ctx, f.room, nums)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if found[i] == nil {
			found[i], stored = stored[0].Event, stored[1:]
		}
	}
	return found, nil
}
