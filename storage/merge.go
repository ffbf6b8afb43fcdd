package storage

import "strconv"

// tableRows are the rows of a group for one table.
type tableRows struct {
	table *Table
	rows  []row
}

// row is one insert of a group.
type row struct {
	values []any
	first  Position // of the item, which references count from
	item   int      // index of the item
}

// value is the value of column i, a reference turned into its position.
func (r *row) value(i int) any { return resolve(r.values[i], r.first) }

// resolve puts the position that is known now in the place of a Ref.
func resolve(v any, first Position) any {
	if ref, ok := v.(Ref); ok {
		return int64(first) + int64(ref.ordinal) - 1
	}
	return v
}

// resolveAll returns args with their references turned into positions.
func resolveAll(args []any, first Position) []any {
	for i, v := range args {
		if _, ok := v.(Ref); !ok {
			continue
		}
		// A copy: the item may be tried again, at another position.
		resolved := append([]any(nil), args...)
		for j := i; j < len(args); j++ {
			resolved[j] = resolve(args[j], first)
		}
		return resolved
	}
	return args
}

// merge gathers the inserts of an attempt by table, in the order in which the tables first appear.
// Of the rows with one key of a Replace table the last one stays.
func merge(a *attempt) []*tableRows {
	var tables []*tableRows
	byTable := map[*Table]*tableRows{}
	for i, it := range a.items {
		for _, ins := range it.inserts {
			t := byTable[ins.table]
			if t == nil {
				t = &tableRows{table: ins.table}
				byTable[ins.table] = t
				tables = append(tables, t)
			}
			t.rows = append(t.rows, row{ins.values, a.first[i], i})
		}
	}
	for _, t := range tables {
		if t.table.onConflict == Replace && len(t.rows) > 1 {
			t.dropReplaced()
		}
	}
	return tables
}

// dropReplaced keeps the last row of each key: PostgreSQL refuses to touch a row twice in one statement, and SQLite
// would write it twice for nothing.
func (t *tableRows) dropReplaced() {
	keys := t.table.keyColumns()
	seen := make(map[string]int, len(t.rows))
	kept := t.rows[:0]
	var b []byte
	for _, r := range t.rows {
		b = r.appendKey(b[:0], keys)
		if at, ok := seen[string(b)]; ok {
			kept[at] = r
			continue
		}
		seen[string(b)] = len(kept)
		kept = append(kept, r)
	}
	t.rows = kept
}

// appendKey appends the values of the columns, each with its length or type, so that no two keys look alike.
func (r *row) appendKey(b []byte, columns []int) []byte {
	for _, c := range columns {
		switch v := r.value(c).(type) {
		case string:
			b = append(strconv.AppendInt(b, int64(len(v)), 10), 's')
			b = append(b, v...)
		case []byte:
			b = append(strconv.AppendInt(b, int64(len(v)), 10), 'b')
			b = append(b, v...)
		case int64:
			b = append(strconv.AppendInt(b, v, 10), 'i')
		case bool:
			b = append(strconv.AppendBool(b, v), '?')
		default:
			b = append(b, 'n')
		}
	}
	return b
}
