package storage

import (
	"fmt"
	"regexp"

	"github.com/myelin-chat/myelin/matrix"
)

// A Write is a value that says what to store and on what condition. Rows is called once, by Commit or
// Submit, in the goroutine of the caller; it must not touch the database.
type Write interface {
	Rows(*Item)
}

// All is several writes that are stored together or not at all.
type All []Write

// Rows implements Write.
func (all All) Rows(it *Item) {
	for _, w := range all {
		w.Rows(it)
	}
}

// Kind says what sort of thing a piece of news is.
type Kind uint8

// The kinds of news. A reader skips the kinds it does not serve.
const (
	NewsEvent       Kind = iota + 1 // an event of a room, in the room's order
	NewsState                       // the current state of a room moved, with or without an event
	NewsReceipt                     // a read receipt or fully-read marker
	NewsAccountData                 // account data of a user, global or of a room; push rules; tags
	NewsDeviceList                  // a user's devices or keys changed
	NewsToDevice                    // a message to a device waits
	NewsKeys                        // the one-time keys left of a device changed
	NewsProfile                     // a profile changed
	NewsInvite                      // a user was invited, knocked, or was rejected, in a room we may not know
	NewsRoom                        // anything else of a room: directory, purge, upgrade, block
	NewsServer                      // anything of another server: outgoing messages, keys
)

// News is one durable thing that somebody can be told of.
type News struct {
	Position Position // filled in at the commit
	Kind     Kind
	Room     matrix.RoomID // if it is about one
	User     matrix.UserID // if it is about one
	Value    any           // the stored thing, for readers in this process; readers must manage without it
}

// Ref stands for a position that is not known before the commit. It may be given wherever a value is.
type Ref struct {
	ordinal int // of the item's news, from 1; 0 is not a reference
}

// Item is one write on its way into a group. Its methods keep what they are given; slices are not
// changed by the caller afterwards.
type Item struct {
	inserts []insert
	execs   []statement
	require []requirement
	news    []News
	err     error // a mistake of the caller, found while the item was filled

	chain   chain
	chained bool

	done func(Position, error)
}

type insert struct {
	table  *Table
	values []any // normalised: string, int64, bool, []byte, nil or Ref
}

type statement struct {
	sql  string
	args []any // normalised, as above
}

type requirement struct {
	statement
	orElse error
}

var conditional = regexp.MustCompile(`(?i)^\s*(SELECT|INSERT|UPDATE|DELETE)\s`)

// chain names a row of items of which none may succeed once one has failed.
type chain struct{ key, generation int64 }

// Insert stores a row, its values in the order of the table's columns.
func (it *Item) Insert(t *Table, values ...any) {
	if len(values) != len(t.columns) {
		it.fail(fmt.Errorf("storage: %d values for the %d columns of %s", len(values), len(t.columns), t.name))
		return
	}
	for i, v := range values {
		n, err := columnValue(t.columns[i].typ, v)
		if err != nil {
			it.fail(fmt.Errorf("storage: column %s of %s: %w", t.columns[i].name, t.name, err))
			return
		}
		values[i] = n
	}
	it.inserts = append(it.inserts, insert{t, values})
}

// Exec runs an update or a delete after all inserts of the group, in the order of the items.
func (it *Item) Exec(sql string, args ...any) {
	if s, ok := it.statement(sql, args); ok {
		it.execs = append(it.execs, s)
	}
}

// Require runs a statement that must touch (or, for a SELECT, find) a row; else the whole item fails
// with orElse and stores nothing. The conditions of a group run before its inserts and see each other's
// effects, but not the inserts and Execs of the same group: what a condition guards has to be changed
// by a condition too, as in a compare-and-set, or by an insert that fails on a duplicate.
func (it *Item) Require(orElse error, sql string, args ...any) {
	if !conditional.MatchString(sql) {
		it.fail(fmt.Errorf("storage: a condition begins with SELECT, INSERT, UPDATE or DELETE: %s", sql))
		return
	}
	if s, ok := it.statement(sql, args); ok {
		it.require = append(it.require, requirement{s, orElse})
	}
}

// News asks for a position. The positions of an item follow each other in the order of the calls.
func (it *Item) News(n News) Ref {
	it.news = append(it.news, n)
	return Ref{len(it.news)}
}

// Chain makes the item one of a row that builds on each other: if an item of (key, generation) fails,
// later items of the same pair fail with ErrChain. A higher generation of the key begins afresh.
func (it *Item) Chain(key, generation int64) {
	it.chain, it.chained = chain{key, generation}, true
}

func (it *Item) statement(sql string, args []any) (statement, bool) {
	args, err := arguments(args)
	if err != nil {
		it.fail(err)
		return statement{}, false
	}
	return statement{sql, args}, true
}

// fail keeps the first mistake. The item is refused with it, and nobody else's group is.
func (it *Item) fail(err error) {
	if it.err == nil {
		it.err = err
	}
}

// size is what the item adds to the work of a group.
func (it *Item) size() int { return 1 + len(it.inserts) + len(it.execs) + len(it.require) }
