package storage

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one step of the schema. Steps are never changed once released, only followed by others.
type migration struct {
	version int64
	name    string
	sql     string
}

const migrationTable = `CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL)`

// migrations returns the steps in files, in order.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, path := range names {
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || len(number) != 4 {
			return nil, fmt.Errorf("migration %s: the name does not begin with four digits", path)
		}
		all = append(all, migration{version, name, string(text)})
	}
	slices.SortFunc(all, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	for i := 1; i < len(all); i++ {
		if all[i].version == all[i-1].version {
			return nil, fmt.Errorf("migrations %s and %s have the same number", all[i-1].name, all[i].name)
		}
	}
	return all, nil
}

// migrate brings the schema up to date, each step in a transaction of its own.
func migrate(ctx context.Context, e engine, steps []migration) error {
	if err := e.script(ctx, statement{sql: e.dialect().schema(migrationTable)}); err != nil {
		return fmt.Errorf("make the table of migrations: %w", err)
	}
	done := map[int64]bool{}
	err := Each(ctx, e, func(r Rows) error {
		var version int64
		var name string
		if err := r.Scan(&version, &name); err != nil {
			return err
		}
		done[version] = true
		if last := steps[len(steps)-1]; version > last.version {
			return fmt.Errorf("the database was made by a newer version of this program: it has schema %s, and this program knows schemas up to %s", name, last.name)
		}
		return nil
	}, `SELECT version, name FROM migrations ORDER BY version DESC`)
	if err != nil {
		return err
	}
	for _, m := range steps {
		if done[m.version] {
			continue
		}
		err := e.script(ctx,
			statement{sql: e.dialect().schema(m.sql)},
			statement{sql: `INSERT INTO migrations (version, name) VALUES ($1, $2)`, args: []any{m.version, m.name}})
		if err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	return nil
}
