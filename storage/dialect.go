package storage

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"
)

// dialect is what differs between the engines in text and in errors.
type dialect uint8

const (
	sqliteDialect dialect = iota
	postgresDialect
)

// query returns sql as the engine takes it. SQLite would bind $2 and $1 by their order of appearance,
// silently wrong, so they become ?2 and ?1.
func (d dialect) query(sql string) string {
	if d == postgresDialect || !strings.Contains(sql, "$") {
		return sql
	}
	b := []byte(sql)
	for i := 0; i < len(b); i++ {
		if end := skipQuoted(sql, i); end > i {
			i = end - 1
			continue
		}
		if b[i] == '$' && i+1 < len(b) && b[i+1] >= '0' && b[i+1] <= '9' {
			b[i] = '?'
		}
	}
	return string(b)
}

// skipQuoted returns the end of the literal, quoted name or comment that begins at i, else i.
func skipQuoted(sql string, i int) int {
	end, skip := "", 1
	switch {
	case sql[i] == '\'', sql[i] == '"':
		end = sql[i : i+1]
	case strings.HasPrefix(sql[i:], "--"):
		end = "\n"
	case strings.HasPrefix(sql[i:], "/*"):
		end, skip = "*/", 2
	default:
		return i
	}
	n := strings.Index(sql[i+skip:], end)
	if n < 0 {
		return len(sql)
	}
	return i + skip + n + len(end)
}

var (
	bigintKey = regexp.MustCompile(`(?i)\bBIGINT\s+PRIMARY\s+KEY\b`)
	bytea     = regexp.MustCompile(`(?i)\bBYTEA\b`)
	strpos    = regexp.MustCompile(`(?i)\bSTRPOS\b`)
)

// schema returns the text of a migration as the engine takes it. Only INTEGER PRIMARY KEY is the row
// ID of a table of SQLite; BIGINT would cost a second tree. What finds a text in another has two names.
func (d dialect) schema(sql string) string {
	if d == postgresDialect {
		return sql
	}
	sql = bigintKey.ReplaceAllString(sql, "INTEGER PRIMARY KEY")
	return strpos.ReplaceAllString(bytea.ReplaceAllString(sql, "BLOB"), "instr")
}

// insert returns the statement that inserts into t: one row on SQLite, any number of them, as one
// array per column, on PostgreSQL.
func (d dialect) insert(t *Table) string {
	names, params, sets := make([]string, len(t.columns)), make([]string, len(t.columns)), []string{}
	key := map[string]bool{}
	for _, k := range t.key {
		key[k] = true
	}
	for i, c := range t.columns {
		names[i] = c.name
		params[i] = fmt.Sprintf("?%d", i+1)
		if d == postgresDialect {
			params[i] = fmt.Sprintf("$%d::%s[]", i+1, postgresType(c.typ))
		}
		if !key[c.name] {
			sets = append(sets, c.name+" = excluded."+c.name)
		}
	}
	// The casts tell PostgreSQL the types of the arrays; without them it would guess, and not plan the statement once.
	source := "VALUES (%s)"
	if d == postgresDialect {
		source = "SELECT * FROM unnest(%s)"
	}
	sql := fmt.Sprintf("INSERT INTO %s (%s) "+source, t.name, strings.Join(names, ", "), strings.Join(params, ", "))
	switch {
	// A table that is all key has nothing to replace.
	case t.onConflict == Ignore, t.onConflict == Replace && len(sets) == 0:
		sql += " ON CONFLICT DO NOTHING"
	case t.onConflict == Replace:
		sql += fmt.Sprintf(" ON CONFLICT (%s) DO UPDATE SET %s", strings.Join(t.key, ", "), strings.Join(sets, ", "))
	}
	return sql
}

func postgresType(t columnType) string {
	return [...]string{textColumn: "text", bigintColumn: "bigint", booleanColumn: "boolean", bytesColumn: "bytea"}[t]
}

// moveLog moves the log row, if it is where we left it: a division by zero fails the transaction on
// PostgreSQL, where COMMIT follows without waiting, and is NULL on SQLite, where no row is touched.
const moveLog = `
	UPDATE log SET position = $1, group_number = $2, next_number = $3
	WHERE id = 1 AND 1 / (CASE WHEN group_number = $4 THEN 1 ELSE 0 END) = 1`

// moveLogArgs are the parameters of moveLog: what the log becomes, and the group that it must have been left at.
func (a *attempt) moveLogArgs() []any {
	return []any{int64(a.after.position), a.after.group, a.after.next, a.before.group}
}

const readLog = `SELECT position, group_number, next_number FROM log WHERE id = 1`

// SQLSTATE codes and classes of PostgreSQL.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	pgUnique        = "23505"
	pgDiskFull      = "53100"
	pgSerialization = "40001"
	pgDeadlock      = "40P01"
	pgLockTimeout   = "55P03"
	pgQueryCanceled = "57014" // an administrator, or statement_timeout
	pgReadOnly      = "25006" // a standby, after a failover
	pgClassStopping = "57P"   // the server is being stopped, or starts
	pgClassConnect  = "08"
	pgClassShort    = "53" // of memory, of connections, ...
)

// judge says what an error in a statement means for the attempt. It is given only errors after which
// nothing is stored, or the connection is gone.
func judge(err error) outcome {
	var pg *pgconn.PgError
	var lite sqlite3.ExtendedErrorCode // an error of SQLite is this, or a struct that gives it
	switch {
	case errors.As(err, &pg):
		return judgePostgres(pg)
	case errors.As(err, &lite):
		return judgeSQLite(lite, err)
	case errors.Is(err, errLost):
		return outcome{verdict: unknown, err: err}
	}
	return outcome{verdict: failed, err: err}
}

// judgePostgres follows the SQLSTATE. Where the server stops or the connection breaks, the COMMIT may have happened:
// that is unknown, and the log row has to tell. Whatever else is not named is the fault of an item, or is found to be
// nobody's when each fails alone.
func judgePostgres(err *pgconn.PgError) outcome {
	unavailable := &storedError{ErrUnavailable, err}
	switch err.Code {
	case pgUnique:
		return outcome{verdict: failed, err: &storedError{ErrDuplicate, err}}
	case pgDiskFull:
		return outcome{verdict: blocked, err: &storedError{ErrFull, err}}
	case pgSerialization, pgDeadlock, pgLockTimeout, pgQueryCanceled, pgReadOnly:
		return outcome{verdict: unreachable, err: unavailable}
	}
	switch {
	case strings.HasPrefix(err.Code, pgClassStopping), strings.HasPrefix(err.Code, pgClassConnect):
		return outcome{verdict: unknown, err: unavailable}
	case strings.HasPrefix(err.Code, pgClassShort):
		return outcome{verdict: blocked, err: unavailable}
	}
	return outcome{verdict: failed, err: err}
}

// judgeSQLite follows the result code. After an I/O error SQLite does not say how far it got, so that is unknown, but
// for a full disk, of which it is known that nothing is stored.
func judgeSQLite(code sqlite3.ExtendedErrorCode, err error) outcome {
	unavailable := &storedError{ErrUnavailable, err}
	switch code {
	case sqlite3.CONSTRAINT_UNIQUE, sqlite3.CONSTRAINT_PRIMARYKEY, sqlite3.CONSTRAINT_ROWID:
		return outcome{verdict: failed, err: &storedError{ErrDuplicate, err}}
	}
	switch code.Code() {
	case sqlite3.FULL:
		return outcome{verdict: blocked, err: &storedError{ErrFull, err}}
	case sqlite3.BUSY, sqlite3.LOCKED:
		return outcome{verdict: unreachable, err: unavailable}
	case sqlite3.IOERR, sqlite3.CANTOPEN, sqlite3.READONLY:
		if diskIsFull(err) {
			return outcome{verdict: blocked, err: &storedError{ErrFull, err}}
		}
		return outcome{verdict: unknown, err: unavailable}
	}
	return outcome{verdict: failed, err: err}
}

// storedError is one of the errors of this package with the engine's own as its reason.
type storedError struct{ kind, cause error }

func (e *storedError) Error() string   { return e.kind.Error() + ": " + e.cause.Error() }
func (e *storedError) Unwrap() []error { return []error{e.kind, e.cause} }

// errLost marks an error after which the connection to the database is gone.
var errLost = errors.New("the connection to the database was lost")

// isQuery tells whether the statement answers with rows instead of touching them.
func isQuery(sql string) bool {
	sql = strings.TrimSpace(sql)
	return len(sql) >= 6 && strings.EqualFold(sql[:6], "SELECT")
}
