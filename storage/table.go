package storage

import (
	"fmt"
	"slices"
	"strings"
)

// Table describes a table for inserts. It is declared once, as a package variable, and compared by address.
type Table struct {
	name       string
	columns    []column
	key        []string // the columns that say which row it is
	onConflict Conflict
}

// column is a column of a table. A nil or a nil pointer is stored as NULL.
type column struct {
	name string
	typ  columnType
}

// columnType is the type of a column, the same on both engines.
type columnType uint8

const (
	textColumn columnType = iota
	bigintColumn
	booleanColumn
	bytesColumn
)

// columnTypes are the words of the types, as migrations have them.
var columnTypes = map[string]columnType{
	"TEXT": textColumn, "BIGINT": bigintColumn, "BOOLEAN": booleanColumn, "BYTEA": bytesColumn,
}

// Conflict says what an insert does when a row with the key is already there.
type Conflict uint8

const (
	// Fail refuses the whole item with ErrDuplicate.
	Fail Conflict = iota
	// Ignore keeps the row that is there.
	Ignore
	// Replace overwrites the other columns; of several rows with one key in a group the last one wins.
	Replace
)

// NewTable declares a table by the columns that [Item.Insert] fills, in their order and in the words of the migration, with
// KEY behind those that say which row it is:
//
//	NewTable("filters", Ignore, "user_id TEXT KEY, filter_id TEXT KEY, content TEXT")
//
// It panics on anything else, as the text is part of the program.
func NewTable(name string, onConflict Conflict, columns string) *Table {
	t := &Table{name: name, onConflict: onConflict}
	for text := range strings.SplitSeq(columns, ",") {
		words := strings.Fields(text)
		isKey := len(words) == 3 && words[2] == "KEY"
		if len(words) != 2 && !isKey {
			panic(fmt.Sprintf("storage: table %s: %q is no column", name, text))
		}
		typ, known := columnTypes[words[1]]
		if !known {
			panic(fmt.Sprintf("storage: table %s: there is no type %s", name, words[1]))
		}
		t.columns = append(t.columns, column{words[0], typ})
		if isKey {
			t.key = append(t.key, words[0])
		}
	}
	if onConflict == Replace && len(t.key) == 0 {
		panic(fmt.Sprintf("storage: table %s has no key", name))
	}
	return t
}

// On is the same table for inserts that do something else when the row is there.
func (t *Table) On(c Conflict) *Table {
	other := *t
	other.onConflict = c
	return &other
}

// keyColumns are the indexes of the key among the columns.
func (t *Table) keyColumns() []int {
	var at []int
	for i, c := range t.columns {
		if slices.Contains(t.key, c.name) {
			at = append(at, i)
		}
	}
	return at
}
