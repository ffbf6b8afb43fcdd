// Package policy asks the policy servers of rooms, each of which has to sign the events of its room, and remembers which
// of them cannot be reached. Whom a room wants to be asked stands in its state; who reads that, and what becomes of an event
// that is not signed, is the business of others.
// https://spec.matrix.org/v1.19/server-server-api/#policy-servers
package policy

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Key is where the state names the policy server. What stands there is not put before it: a room can always get rid
// of one.
var Key = event.Key{Type: "m.room.policy"}

// keyID is the ID of every policy server's key.
const keyID signing.KeyID = "ed25519:policy_server"

// A Server is whom a room wants to be asked about each of its events.
// https://spec.matrix.org/v1.19/server-server-api/#policy-servers
type Server struct {
	Name matrix.ServerName
	Key  ed25519.PublicKey // nil: what the room names is no key, and nothing can be signed with it
}

// Of reads whom a state event names.
// https://spec.matrix.org/v1.19/server-server-api/#determining-if-a-policy-server-is-enabled-in-a-room
func Of(named *rooms.Event) (p Server, ok bool) {
	if named == nil {
		return p, false
	}
	via, _ := canonical.String(canonical.Get(named.Content, "via"))
	key, isText := canonical.String(canonical.Get(named.Content, "public_keys", "ed25519"))
	name, err := matrix.ParseServerName(via)
	if err != nil || !isText {
		return p, false
	}
	p.Name = name
	if raw, err := signing.DecodeBase64(key); err == nil && len(raw) == ed25519.PublicKeySize {
		p.Key = raw
	}
	return p, true
}

// Wants says whether an event lacks the signature of a policy server that it should have.
func (p Server) Wants(ev *event.Event) bool {
	if ev.IsState() && ev.StateID() == Key {
		return false
	}
	return p.Key == nil || event.VerifySignature(ev, p.Name, keyID, p.Key) != nil
}

// Limits of asking policy servers.
const (
	timeout    = 5 * time.Second  // for one event
	firstPause = time.Second      // one that cannot be reached is not asked again; twice as long each time
	lastPause  = 30 * time.Second // but no longer
	MaxAsked   = 16               // requests to one policy server at a time
	maxServers = 1000             // of which it is remembered how they are
	busyForMS  = 1000             // when to come again where too much is asked
)

// Servers asks the policy servers of rooms, and knows how they are.
type Servers struct {
	name matrix.ServerName // of this server, which is none
	now  func() time.Time
	sign func(context.Context, Server, *event.Event) (*event.Event, error)

	mu    sync.Mutex
	known map[matrix.ServerName]*state
}

type state struct {
	slots chan struct{}

	// Guarded by Servers.mu.
	downUntil time.Time
	pause     time.Duration // the last one; 0: it was reached since
}

func (l *Servers) of(name matrix.ServerName) *state {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil || len(l.known) >= maxServers && l.known[name] == nil {
		l.known = make(map[matrix.ServerName]*state)
	}
	if l.known[name] == nil {
		l.known[name] = &state{slots: make(chan struct{}, MaxAsked)}
	}
	return l.known[name]
}

// enter waits for a turn to ask, for a while.
func (p *state) enter(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *state) leave() { <-p.slots }

func (l *Servers) isDown(p *state, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(p.downUntil)
}

// noteDown lets a policy server rest. Requests that fail beside each other are one failure.
func (l *Servers) noteDown(p *state, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(p.downUntil) {
		return
	}
	p.pause = min(max(firstPause, 2*p.pause), lastPause)
	p.downUntil = now.Add(p.pause)
}

func (l *Servers) noteUp(p *state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.pause = 0
}

// New makes the Servers that a server of this name asks. Sign asks one of them for its signature of an event, and returns the
// event with it. The error is a *matrix.Error with a status below 500 if the policy server refuses: it may be shown to a
// client. Any other says that it cannot be reached, or makes no sense.
func New(name matrix.ServerName, now func() time.Time, sign func(context.Context, Server, *event.Event) (*event.Event, error)) *Servers {
	return &Servers{name: name, now: now, sign: sign}
}

// Sign returns an event with the signature of a policy server, which is asked for it. The error is what the client
// is told: what the policy server says, or that it cannot be reached, which is then believed for a while, or that
// it was not asked (IsUnasked).
// https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event
func (l *Servers) Sign(ctx context.Context, p Server, ev *event.Event) (*event.Event, error) {
	unreachable := matrix.Errorf(matrix.Unknown, "the policy server %s of this room cannot be reached", p.Name).WithStatus(502)
	busy := unaskedError{matrix.Errorf(matrix.LimitExceeded, "too much is asked of the policy server %s", p.Name).With("retry_after_ms", busyForMS)}
	how := l.of(p.Name)
	if !how.enter(ctx) {
		return nil, busy
	}
	defer how.leave()
	if p.Name == l.name || l.isDown(how, l.now()) {
		return nil, unreachable
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	signed, err := l.sign(asking, p, ev)
	var said *matrix.Error
	switch {
	case errors.As(err, &said) && said.Status() < 500:
		l.noteUp(how)
		return nil, said
	case err != nil && ctx.Err() != nil:
		return nil, busy // it is who asks that has no more time
	case err != nil:
		l.noteDown(how, l.now())
		return nil, unreachable
	}
	l.noteUp(how)
	if signed.ID != ev.ID || p.Wants(signed) {
		return nil, matrix.Errorf(matrix.Forbidden, "the policy server %s of this room has not signed the event", p.Name)
	}
	return signed, nil
}

// unaskedError says that too much is asked of a policy server at once, or that its answer was not waited for.
type unaskedError struct{ answer *matrix.Error }

func (e unaskedError) Error() string { return e.answer.Error() }
func (e unaskedError) Unwrap() error { return e.answer }

// IsUnasked says whether an error of Sign tells nothing about the event, nor about the policy server: it had no time for it.
// Since each of its answers is waited for a few seconds only, its turn will come.
func IsUnasked(err error) bool { return errors.As(err, new(unaskedError)) }
