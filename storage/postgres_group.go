package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// pipeline is a batch of statements that goes to the server in one piece, with who is to blame for each.
type pipeline struct {
	batch pgx.Batch
	steps []pipelineStep
}

// pipelineStep says of a statement what the batch forgets.
type pipelineStep struct {
	name string // for the seam
	item int    // whose statement it is; manyItems if it is the group's
}

const manyItems = -1

func (p *pipeline) add(step string, item int, sql string, args ...any) {
	p.batch.Queue(sql, args...)
	p.steps = append(p.steps, pipelineStep{step, item})
}

// apply stores a group: one pipeline of inserts, statements and COMMIT; before it, if there are
// conditions, another one, so that all that fail are found at once.
func (e *postgresEngine) apply(a *attempt) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), groupWait)
	defer cancel()
	if e.writer == nil || e.writer.IsClosed() {
		if err := e.connect(ctx); err != nil {
			return outcome{verdict: unreachable, err: &storedError{ErrUnavailable, err}}
		}
		// What moved the log while we were away would be found by its compare-and-set.
	}
	o := e.store(ctx, a)
	if o.verdict != committed && o.verdict != unknown {
		if _, err := e.writer.Exec(ctx, `ROLLBACK`); err != nil {
			e.drop()
			return outcome{verdict: unknown, err: &storedError{ErrUnavailable, err}}
		}
	}
	return o
}

// store leaves a transaction open where it fails; the caller ends it. Conditions take a round trip of their own, since
// COMMIT follows the writes without waiting for what they say.
func (e *postgresEngine) store(ctx context.Context, a *attempt) outcome {
	p := &pipeline{}
	p.add("begin", manyItems, `BEGIN`)
	begun := p.addConditions(a)
	if begun {
		counts, o := e.send(ctx, p)
		if o.verdict == committed {
			o = failedConditions(a, counts[1:])
		}
		if o.verdict != committed {
			return o
		}
		p = &pipeline{}
	}
	tables := merge(a)
	e.addWrites(p, a, tables)
	p.add("log", manyItems, moveLog, a.moveLogArgs()...)
	p.add("commit", manyItems, `COMMIT`)
	_, o := e.send(ctx, p)
	if o.verdict == committed {
		e.grown.add(tables)
	}
	return o
}

// addConditions asks all conditions of all items before anything is written.
func (p *pipeline) addConditions(a *attempt) (any bool) {
	for i, it := range a.items {
		for _, r := range it.require {
			p.add("require", i, r.sql, resolveAll(r.args, a.first[i])...)
			any = true
		}
	}
	return any
}

// failedConditions finds the items with a condition that touched no row.
func failedConditions(a *attempt, counts []int64) outcome {
	culprits := map[int]error{}
	n := 0
	for i, it := range a.items {
		for _, r := range it.require {
			if _, failed := culprits[i]; counts[n] == 0 && !failed {
				culprits[i] = r.orElse
			}
			n++
		}
	}
	if len(culprits) > 0 {
		return outcome{verdict: refused, culprits: culprits}
	}
	return outcome{verdict: committed}
}

// addWrites makes one statement of all rows for a table, with a column as an array, so that its text, and the plan
// with it, is the same for any number of rows.
func (e *postgresEngine) addWrites(p *pipeline, a *attempt, tables []*tableRows) {
	for _, t := range tables {
		sql, ok := e.inserts[t.table]
		if !ok {
			sql = postgresDialect.insert(t.table)
			e.inserts[t.table] = sql
		}
		args := make([]any, len(t.table.columns))
		for i := range args {
			args[i] = columnArray{t, i}
		}
		p.add("insert", t.owner(), sql, args...)
	}
	for i, it := range a.items {
		for _, s := range it.execs {
			p.add("exec", i, s.sql, resolveAll(s.args, a.first[i])...)
		}
	}
}

// owner is the item that all rows belong to, or manyItems.
func (t *tableRows) owner() int {
	for _, r := range t.rows {
		if r.item != t.rows[0].item {
			return manyItems
		}
	}
	return t.rows[0].item
}

// send runs a pipeline and returns how many rows each statement touched.
func (e *postgresEngine) send(ctx context.Context, p *pipeline) ([]int64, outcome) {
	for _, s := range p.steps {
		if err := e.seam.at(s.name); err != nil {
			return nil, e.judge(err, s.item)
		}
	}
	// Under no context of a caller, but with a time limit: a server that hangs must not stop the committer for good.
	results := e.writer.SendBatch(ctx, &p.batch)
	counts := make([]int64, len(p.steps))
	for i, s := range p.steps {
		tag, err := results.Exec()
		if err != nil {
			results.Close() // what came after the first error was not run: it is of no interest
			return nil, e.judge(err, s.item)
		}
		counts[i] = tag.RowsAffected()
	}
	err := results.Close()
	if err == nil && p.steps[len(p.steps)-1].name == "commit" {
		err = e.seam.at("committed")
	}
	if err != nil {
		return nil, e.judge(err, manyItems)
	}
	return counts, outcome{verdict: committed}
}

// judge says what an error means, and gives up a connection that may still be working.
func (e *postgresEngine) judge(err error, item int) outcome {
	if lost(e.writer, err) {
		err = fmt.Errorf("%w: %w", errLost, err)
	}
	o := judge(err)
	if item != manyItems {
		o = blame(err, item)
	}
	if o.verdict == unknown {
		e.drop()
		o.err = &storedError{ErrUnavailable, err}
	}
	return o
}

// drop closes the connection that writes, without waiting for the server.
func (e *postgresEngine) drop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.writer.Close(ctx)
}

// settle connects anew, which waits for the end of the old transaction, and reads the log row.
func (e *postgresEngine) settle(ctx context.Context) (row logRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectWait)
	defer cancel()
	if e.writer == nil || e.writer.IsClosed() {
		if err := e.connect(ctx); err != nil {
			return row, err
		}
	}
	err = e.writer.QueryRow(ctx, readLog).Scan(&row.position, &row.group, &row.next)
	if err != nil {
		e.drop()
	}
	return row, err
}

// script runs statements in one transaction.
func (e *postgresEngine) script(ctx context.Context, all ...statement) error {
	return pgx.BeginFunc(ctx, e.writer, func(tx pgx.Tx) error {
		for _, s := range all {
			args := s.args
			if len(args) == 0 {
				args = []any{pgx.QueryExecModeSimpleProtocol} // takes several statements
			}
			if _, err := tx.Exec(ctx, s.sql, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// columnArray gives pgx one column of the rows as an array, without copying it.
type columnArray struct {
	rows   *tableRows
	column int
}

// Dimensions says that there is one.
func (c columnArray) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(c.rows.rows)), LowerBound: 1}}
}

// Index is the value of one row.
func (c columnArray) Index(i int) any { return c.rows.rows[i].value(c.column) }

// IndexType is any value of the column's type.
func (c columnArray) IndexType() any {
	return [...]any{textColumn: "", bigintColumn: int64(0), booleanColumn: false, bytesColumn: []byte{}}[c.rows.table.columns[c.column].typ]
}
