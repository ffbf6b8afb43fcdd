package storage

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// PostgreSQL looks once a minute how large tables have become. Until then it plans for a table that is nearly empty, and
// a prepared statement keeps such a plan: what reads by an index of a few rows reads the whole table, for every row
// wanted, while a room of thousands comes in. So whenever a table has doubled the server is asked to look.
const (
	firstLook = 200     // rows of a table
	lastLook  = 500_000 // from then on a table grows slowly enough for the server
)

// statistics counts how tables grow.
type statistics struct {
	mu     sync.Mutex
	tables map[string]*growth // nil until it is known what there was
	due    chan struct{}      // capacity 1
}

// growth is of one table.
type growth struct {
	looked int64 // rows, when the server last looked
	added  int64 // since then
}

func newStatistics() *statistics { return &statistics{due: make(chan struct{}, 1)} }

// begin takes what the server knows of tables.
func (s *statistics) begin(rows map[string]int64) {
	if rows == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = make(map[string]*growth, len(rows))
	for name, n := range rows {
		s.tables[name] = &growth{looked: max(n, 0)} // negative: it never looked
	}
}

// add counts the rows of a group that was stored. Those that take the place of others are counted too, which does no
// harm.
func (s *statistics) add(stored []*tableRows) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables == nil {
		return
	}
	for _, t := range stored {
		g := s.tables[t.table.name]
		if g == nil {
			g = &growth{}
			s.tables[t.table.name] = g
		}
		g.added += int64(len(t.rows))
		if g.isDue() {
			select {
			case s.due <- struct{}{}:
			default:
			}
		}
	}
}

func (g *growth) isDue() bool { return g.added >= max(g.looked, firstLook) && g.looked < lastLook }

// take returns the tables at which the server should look, and counts them as looked at.
func (s *statistics) take() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, g := range s.tables {
		if g.isDue() {
			names = append(names, name)
			g.looked, g.added = g.looked+g.added, 0
		}
	}
	return names
}

// maintain has the server look at tables that have grown.
func (e *postgresEngine) maintain(ctx context.Context) {
	known, err := e.tableRows(ctx)
	if err != nil {
		e.log.Warn("the sizes of tables are not known; the server may plan badly while they grow", "err", err)
	}
	e.grown.begin(known)
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.grown.due:
		}
		for _, table := range e.grown.take() {
			if err := e.analyze(ctx, table); err != nil && ctx.Err() == nil {
				e.log.Warn("the server cannot look how large a table has become", "table", table, "err", err)
			}
		}
	}
}

// tableRows returns how many rows the server believes that each table has.
func (e *postgresEngine) tableRows(ctx context.Context) (map[string]int64, error) {
	known := make(map[string]int64)
	err := Each(ctx, e, func(rows Rows) error {
		var name string
		var n int64
		err := rows.Scan(&name, &n)
		known[name] = n
		return err
	}, `SELECT relname::text, reltuples::bigint FROM pg_class
		WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace`)
	if err != nil {
		return nil, err
	}
	return known, nil
}

// analyze may run beside everything else. It changes nothing that a reader may not change.
// https://www.postgresql.org/docs/current/sql-analyze.html
func (e *postgresEngine) analyze(ctx context.Context, table string) error {
	conn, err := e.pool.acquire(ctx)
	if err != nil {
		return err
	}
	defer e.pool.release(conn)
	if _, err := conn.Exec(ctx, `ANALYZE `+pgx.Identifier{table}.Sanitize(), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	return nil
}
