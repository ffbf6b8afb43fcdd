package rooms

import (
	"strings"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

var (
	receiptsTable = storage.NewTable("receipts", storage.Replace, `
		room_num BIGINT KEY, user_id TEXT KEY, type TEXT KEY, thread TEXT KEY, event_id TEXT, ts BIGINT,
		position BIGINT`)
	aliasesTable   = storage.NewTable("aliases", storage.Fail, "alias TEXT KEY, room_num BIGINT, creator TEXT")
	directoryTable = storage.NewTable("directory", storage.Replace, `
		room_num BIGINT KEY, listed BOOLEAN, name TEXT, topic TEXT, canonical_alias TEXT, avatar_url TEXT,
		join_rule TEXT, room_type TEXT, world_readable BOOLEAN, guest_can_join BOOLEAN, search TEXT`)
)

// SetReceipt stores a receipt in place of the one before. Its Position is filled in at the commit.
type SetReceipt struct {
	Room    matrix.RoomID
	Receipt Receipt
}

// Rows implements storage.Write.
func (w SetReceipt) Rows(it *storage.Item) {
	r := w.Receipt
	at := it.News(storage.News{Kind: storage.NewsReceipt, Room: w.Room, User: r.User, Value: r})
	it.Insert(receiptsTable, r.RoomNum, string(r.User), r.Type, r.Thread, string(r.Event), r.TS, at)
}

// Rows makes an Alias a write that stores it. It fails with storage.ErrDuplicate if the alias is taken.
func (a Alias) Rows(it *storage.Item) {
	it.Insert(aliasesTable, string(a.Alias), a.RoomNum, string(a.Creator))
}

// DeleteAlias deletes an alias, if it still points to the room.
type DeleteAlias struct {
	Alias Alias
}

// Rows implements storage.Write.
func (w DeleteAlias) Rows(it *storage.Item) {
	it.Require(matrix.Errorf(matrix.NotFound, "there is no alias %s", w.Alias.Alias),
		`DELETE FROM aliases WHERE alias = $1 AND room_num = $2`, string(w.Alias.Alias), w.Alias.RoomNum)
}

// Forget hides a left room from its user. The condition stands again at the commit: who has come back
// meanwhile has not forgotten it.
type Forget struct {
	Membership Membership
}

// Rows implements storage.Write. The news is of kind NewsInvite, as for every change of a user's rooms
// that is no event of the room.
func (w Forget) Rows(it *storage.Item) {
	m := w.Membership
	it.Require(matrix.Errorf(matrix.Unknown, "%s is in %s again", m.User, m.Room).WithStatus(400), `
		UPDATE memberships SET forgotten = TRUE WHERE room_num = $1 AND user_id = $2 AND event_num = $3`,
		m.RoomNum, string(m.User), m.EventNum)
	m.Forgotten = true
	it.News(storage.News{Kind: storage.NewsInvite, Room: m.Room, User: m.User, Value: m})
}

// Publish puts a room into the directory, or takes it out.
type Publish struct {
	Entry      Published
	Generation int64 // of the room's owner
}

// Rows implements storage.Write.
func (w Publish) Rows(it *storage.Item) {
	it.Chain(w.Entry.RoomNum, w.Generation)
	w.Entry.rows(it)
}

func (p *Published) rows(it *storage.Item) {
	search := strings.ToLower(p.Name + "\n" + p.Topic + "\n" + p.CanonicalAlias)
	it.Insert(directoryTable, p.RoomNum, p.Listed, p.Name, p.Topic, p.CanonicalAlias, p.AvatarURL,
		p.JoinRule, p.RoomType, p.WorldReadable, p.GuestCanJoin, search)
}
