package syncapi

import (
	"time"

	"github.com/myelin-chat/myelin/storage"
)

// Miss makes the API find that the memory of the log does not reach back to where it stands.
func (a *API) Miss() { a.hub.takeAll(nil, false) }

// Sweep makes the API forget what it may at a time.
func (a *API) Sweep(now time.Time) { a.hub.sweep(now) }

// Kept counts what the API has in memory.
func (a *API) Kept() (users, rooms int, bytes int64) {
	a.hub.mu.RLock()
	defer a.hub.mu.RUnlock()
	for _, r := range a.hub.rooms {
		bytes -= r.bytes
	}
	return len(a.hub.users), len(a.hub.rooms), bytes + a.hub.bytes
}

// NewHeld returns an API that takes the log to end where tip says, and looks at it only when Step is called.
func NewHeld(s Settings, tip func() storage.Position) *API {
	a := New(s)
	a.hub.tip = tip
	return a
}

// Step takes in the log as far as it goes.
func (a *API) Step() {
	for a.hub.step() {
	}
}

// Wanted receives whenever somebody waits for the log to be taken in.
func (a *API) Wanted() <-chan struct{} { return a.hub.kick }

// StepMissing reads what is new in the log, then finds that the memory of the log did not reach back far enough,
// and only then takes in what it read.
func (a *API) StepMissing() {
	news, complete := a.hub.db.Since(a.hub.at(), newsAtOnce)
	a.Miss()
	a.hub.takeAll(news, complete)
}

// LearnJoined takes in how many were joined to a room, as it was read at a position.
func (a *API) LearnJoined(roomNum, joined int64, at storage.Position) {
	a.hub.learnSummary(roomNum, &summary{joined: joined, named: true}, at)
}
