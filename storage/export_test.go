package storage

import "context"

// Script runs SQL for a test, as a migration would.
func Script(db *DB, sql string) error {
	return db.engine.script(context.Background(), statement{sql: db.engine.dialect().schema(sql)})
}

// WithSeam sets where faults come from: fault is asked at each step of storing a group.
func WithSeam(s Settings, fault func(step string) error) Settings {
	s.seam = fault
	return s
}

// ErrLost stands for a lost connection.
var ErrLost = errLost
