// Package storagetest opens fresh databases for tests.
package storagetest

import (
	"testing"

	"github.com/myelin-chat/myelin/storage"
)

// The kinds of database.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Each runs f on a fresh SQLite and on a fresh PostgreSQL database.
func Each(t *testing.T, f func(t *testing.T, db *storage.DB)) { panic("not yet") }

// Open opens a fresh database of the kind, runs its committer, and closes it at the end of the test.
func Open(t testing.TB, kind string) *storage.DB { panic("not yet") }
