// Package storagetest opens fresh databases for tests, of both engines. A PostgreSQL server
// is started on demand, once in a test process, and ends with it.
package storagetest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/myelin-chat/myelin/storage"
)

// The kinds of database.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Kinds are all kinds.
var Kinds = []string{SQLite, Postgres}

// Each runs f on a fresh SQLite and on a fresh PostgreSQL database.
func Each(t *testing.T, f func(t *testing.T, db *storage.DB)) {
	t.Helper()
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) { f(t, Open(t, kind)) })
	}
}

// Open opens a fresh database of the kind, runs its committer, and closes it at the end of the test.
func Open(t testing.TB, kind string) *storage.DB {
	t.Helper()
	return Start(t, Settings(t, kind))
}

// Settings are those of a fresh database of the kind, for tests that open it more than once.
func Settings(t testing.TB, kind string) storage.Settings {
	t.Helper()
	s := storage.Settings{URL: "sqlite", DataDir: Dir(t), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if kind == Postgres {
		s.URL = PostgresURL(t)
	}
	return s
}

// Start opens the database of the settings, runs its committer, and closes it at the end of the test. The test may
// close it before.
func Start(t testing.TB, s storage.Settings) *storage.DB {
	t.Helper()
	db, err := storage.Open(context.Background(), s)
	if err != nil {
		t.Fatalf("open %s: %v", s.URL, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- db.Run(context.Background()) }()
	t.Cleanup(func() {
		db.Close()
		// A test may be over before the committer began.
		if err := <-ended; err != nil && !errors.Is(err, storage.ErrClosed) {
			t.Errorf("the committer ended with %v", err)
		}
	})
	return db
}
