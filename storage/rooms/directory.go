package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// An Alias names a room.
type Alias struct {
	Alias   matrix.RoomAlias
	RoomNum int64
	Room    matrix.RoomID
	Creator matrix.UserID
}

// ByAlias returns what an alias of this server points to.
func ByAlias(ctx context.Context, q storage.Querier, alias matrix.RoomAlias) (Alias, bool, error) {
	return storage.First(ctx, q, (*Alias).scan, selectAliases+`WHERE a.alias = $1`, string(alias))
}

// AliasesOf returns the aliases of a room on this server.
func AliasesOf(ctx context.Context, q storage.Querier, roomNum int64) ([]Alias, error) {
	return storage.List(ctx, q, (*Alias).scan, selectAliases+`WHERE a.room_num = $1 ORDER BY a.alias`, roomNum)
}

const selectAliases = `
	SELECT a.alias, a.room_num, r.room_id, a.creator FROM aliases a JOIN rooms r ON r.room_num = a.room_num `

func (a *Alias) scan(rows storage.Rows) error {
	return rows.Scan(&a.Alias, &a.RoomNum, &a.Room, &a.Creator)
}

// A Published room is what the directory shows of it.
type Published struct {
	RoomNum        int64
	Room           matrix.RoomID
	Listed         bool // false: taken out again
	Name           string
	Topic          string
	CanonicalAlias string
	AvatarURL      string
	JoinRule       string
	RoomType       string
	WorldReadable  bool
	GuestCanJoin   bool
	Joined         int64
}

// IsPublished says whether a room is in the directory.
func IsPublished(ctx context.Context, q storage.Querier, roomNum int64) (bool, error) {
	_, found, err := storage.One[int64](ctx, q, `SELECT room_num FROM directory WHERE room_num = $1 AND listed`, roomNum)
	return found, err
}

// A DirectoryQuery asks for a page of the directory: most members first.
type DirectoryQuery struct {
	Term      string         // in lower case; empty for all
	RoomTypes []string       // "" is a room without a type; nil for all
	After     DirectoryPlace // where the page before ended; zero at the start
	Backward  bool           // the page that ends before After, nearest first
	Limit     int
}

// A DirectoryPlace is a place in the order of the directory.
type DirectoryPlace struct {
	Joined, RoomNum int64
}

// Directory returns a page of the published rooms.
func Directory(ctx context.Context, q storage.Querier, ask DirectoryQuery) ([]Published, error) {
	const columns = `
		SELECT d.room_num, r.room_id, d.name, d.topic, d.canonical_alias, d.avatar_url, d.join_rule, d.room_type,
			d.world_readable, d.guest_can_join, h.joined` + fromDirectory
	types := storage.Set(ask.RoomTypes...)
	order, place := ` AND (-h.joined, d.room_num) > ($4, $5) ORDER BY -h.joined, d.room_num LIMIT $6`, ask.After
	if ask.Backward {
		order = ` AND (-h.joined, d.room_num) < ($4, $5) ORDER BY -h.joined DESC, d.room_num DESC LIMIT $6`
	} else if place == (DirectoryPlace{}) {
		place.Joined = 1<<62 - 1
	}
	scan := func(p *Published, rows storage.Rows) error {
		p.Listed = true
		return rows.Scan(&p.RoomNum, &p.Room, &p.Name, &p.Topic, &p.CanonicalAlias, &p.AvatarURL, &p.JoinRule, &p.RoomType,
			&p.WorldReadable, &p.GuestCanJoin, &p.Joined)
	}
	return storage.List(ctx, q, scan, columns+order,
		ask.Term, ask.RoomTypes != nil, types, -place.Joined, place.RoomNum, int64(ask.Limit))
}

// DirectorySize returns how many rooms a query would find in all.
func DirectorySize(ctx context.Context, q storage.Querier, ask DirectoryQuery) (int64, error) {
	types := storage.Set(ask.RoomTypes...)
	n, _, err := storage.One[int64](ctx, q, `SELECT COUNT(*)`+fromDirectory, ask.Term, ask.RoomTypes != nil, types)
	return n, err
}

// replace() counts a term without the wildcards of LIKE, and alike on both engines.
const fromDirectory = `
	FROM directory d JOIN rooms r ON r.room_num = d.room_num JOIN room_heads h ON h.room_num = d.room_num
	WHERE d.listed AND (CAST($1 AS TEXT) = '' OR replace(d.search, $1, '') <> d.search)
		AND (NOT CAST($2 AS BOOLEAN) OR d.room_type IN (SELECT key FROM json_each($3)))`
