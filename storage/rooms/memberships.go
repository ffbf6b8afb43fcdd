package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// A Membership is how a user stands to a room.
type Membership struct {
	RoomNum    int64
	Room       matrix.RoomID
	User       matrix.UserID
	Membership event.Membership
	EventNum   int64
	Position   storage.Position // from which it holds
	Stripped   []byte           // invites and knocks: JSON array of stripped state events
	Forgotten  bool
}

const selectMemberships = `
	SELECT m.room_num, r.room_id, m.user_id, m.membership, m.event_num, m.position, m.stripped, m.forgotten
	FROM memberships m JOIN rooms r ON r.room_num = m.room_num`

func (m *Membership) scan(rows storage.Rows) error {
	return rows.Scan(&m.RoomNum, &m.Room, &m.User, &m.Membership, &m.EventNum, &m.Position, &m.Stripped, &m.Forgotten)
}

// MembershipOf returns the present membership of a user in a room, if it ever had one.
func MembershipOf(ctx context.Context, q storage.Querier, roomNum int64, user matrix.UserID) (Membership, bool, error) {
	return storage.First(ctx, q, (*Membership).scan, selectMemberships+`
		WHERE m.room_num = $1 AND m.user_id = $2`, roomNum, string(user))
}

// MembershipsOfUser returns the present memberships of a user that changed after a position (0: all),
// oldest first. Forgotten rooms are among them, marked so.
func MembershipsOfUser(ctx context.Context, q storage.Querier, user matrix.UserID, after storage.Position) ([]Membership, error) {
	if after == 0 {
		after = -1 // those from before this server knew the room have no position
	}
	return storage.List(ctx, q, (*Membership).scan, selectMemberships+`
		WHERE m.user_id = $1 AND m.position > $2 ORDER BY m.position`, string(user), int64(after))
}

// MembersOf returns the present members of a room that have one of these memberships, or all users
// that ever had any, by user ID.
func MembersOf(ctx context.Context, q storage.Querier, roomNum int64, which ...event.Membership) ([]Membership, error) {
	if len(which) == 0 {
		return storage.List(ctx, q, (*Membership).scan, selectMemberships+`
			WHERE m.room_num = $1 ORDER BY m.user_id`, roomNum)
	}
	return storage.List(ctx, q, (*Membership).scan, selectMemberships+`
		WHERE m.room_num = $1 AND m.membership IN (SELECT key FROM json_each($2))
		ORDER BY m.user_id`, roomNum, storage.Set(which...))
}

// MembershipHistory returns every membership a user has had in a room, oldest first.
func MembershipHistory(ctx context.Context, q storage.Querier, room Room, user matrix.UserID) ([]Membership, error) {
	scan := func(m *Membership, rows storage.Rows) error {
		m.RoomNum, m.Room, m.User = room.Num, room.ID, user
		return rows.Scan(&m.Position, &m.Membership, &m.EventNum)
	}
	return storage.List(ctx, q, scan, `
		SELECT position, membership, event_num FROM membership_history
		WHERE room_num = $1 AND user_id = $2 ORDER BY position`, room.Num, string(user))
}
