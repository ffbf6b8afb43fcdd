package storage

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"
)

func TestQueryText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`SELECT 1`, `SELECT 1`},
		{`a = $1 AND b = $12`, `a = ?1 AND b = ?12`},
		{`'$1' || $1 || '''$2'`, `'$1' || ?1 || '''$2'`},
		{`"$1" = $1`, `"$1" = ?1`},
		{"$1 -- $2\n, $3", "?1 -- $2\n, ?3"},
		{`$1 /* $2 */ $3`, `?1 /* $2 */ ?3`},
		{`$1 /*/ $2 */ $3`, `?1 /*/ $2 */ ?3`},
		{`a $ b $x '$1`, `a $ b $x '$1`},
		{`- $1 / $2`, `- ?1 / ?2`},
	} {
		if got := sqliteDialect.query(c.in); got != c.want {
			t.Errorf("%s: got %s, want %s", c.in, got, c.want)
		}
		if got := postgresDialect.query(c.in); got != c.in {
			t.Errorf("PostgreSQL got %s, want %s", got, c.in)
		}
	}
}

func TestSchemaText(t *testing.T) {
	const in = "CREATE TABLE a (b BIGINT  PRIMARY KEY, c BYTEA NOT NULL, d BIGINT, byteax TEXT); UPDATE a SET d = strpos(byteax, ':')"
	const want = "CREATE TABLE a (b INTEGER PRIMARY KEY, c BLOB NOT NULL, d BIGINT, byteax TEXT); UPDATE a SET d = instr(byteax, ':')"
	if got := sqliteDialect.schema(in); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := postgresDialect.schema(in); got != in {
		t.Errorf("PostgreSQL got %s", got)
	}
}

func TestInsertText(t *testing.T) {
	for _, c := range []struct {
		table *Table
		d     dialect
		want  string
	}{
		{NewTable("t", Fail, "a TEXT, b BIGINT, c BYTEA, d BOOLEAN"), sqliteDialect, `INSERT INTO t (a, b, c, d) VALUES (?1, ?2, ?3, ?4)`},
		{NewTable("t", Ignore, "a TEXT KEY, b BIGINT, c BYTEA, d BOOLEAN"), sqliteDialect, `INSERT INTO t (a, b, c, d) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`},
		{NewTable("t", Replace, "a TEXT KEY, b BIGINT KEY, c BYTEA, d BOOLEAN"), sqliteDialect, `INSERT INTO t (a, b, c, d) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (a, b) DO UPDATE SET c = excluded.c, d = excluded.d`},
		{NewTable("t", Replace, "a TEXT KEY, b BIGINT KEY, c BYTEA KEY, d BOOLEAN KEY"), sqliteDialect, `INSERT INTO t (a, b, c, d) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`},
		{NewTable("t", Fail, "a TEXT, b BIGINT, c BYTEA, d BOOLEAN"), postgresDialect, `INSERT INTO t (a, b, c, d) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::boolean[])`},
	} {
		if got := c.d.insert(c.table); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		err  error
		want verdict
		is   error
	}{
		{&pgconn.PgError{Code: "23505"}, failed, ErrDuplicate},
		{&pgconn.PgError{Code: "23502"}, failed, nil},
		{&pgconn.PgError{Code: "53100"}, blocked, ErrFull},
		{&pgconn.PgError{Code: "53200"}, blocked, ErrUnavailable},
		{&pgconn.PgError{Code: "40001"}, unreachable, ErrUnavailable},
		{&pgconn.PgError{Code: "57P01"}, unknown, ErrUnavailable},
		{&pgconn.PgError{Code: "57014"}, unreachable, ErrUnavailable},
		{&pgconn.PgError{Code: "08006"}, unknown, ErrUnavailable},
		{fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: "25006"}), unreachable, ErrUnavailable},
		{sqlite3.FULL, blocked, ErrFull},
		{sqlite3.BUSY_SNAPSHOT, unreachable, ErrUnavailable},
		{sqlite3.CONSTRAINT_UNIQUE, failed, ErrDuplicate},
		{sqlite3.CONSTRAINT_PRIMARYKEY, failed, ErrDuplicate},
		{sqlite3.CONSTRAINT_NOTNULL, failed, nil},
		{sqlite3.IOERR_WRITE, unknown, ErrUnavailable},
		{errLost, unknown, nil},
		{other, failed, other},
	} {
		o := judge(c.err)
		if o.verdict != c.want || o.err == nil || c.is != nil && !errors.Is(o.err, c.is) {
			t.Errorf("%v: got %d, %v, want %d, %v", c.err, o.verdict, o.err, c.want, c.is)
		}
	}
}
