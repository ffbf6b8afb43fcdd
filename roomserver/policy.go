package roomserver

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// policyKey is where the state names the policy server. What stands there is not put before it: a room can always get rid
// of one.
var policyKey = event.Key{Type: "m.room.policy"}

// policyKeyID is the ID of every policy server's key.
const policyKeyID signing.KeyID = "ed25519:policy_server"

// A PolicyServer is whom a room wants to be asked about each of its events.
// https://spec.matrix.org/v1.19/server-server-api/#policy-servers
type PolicyServer struct {
	Name matrix.ServerName
	Key  ed25519.PublicKey // nil: what the room names is no key, and nothing can be signed with it
}

// policyOf reads whom a state event names.
// https://spec.matrix.org/v1.19/server-server-api/#determining-if-a-policy-server-is-enabled-in-a-room
func policyOf(named *rooms.Event) (p PolicyServer, ok bool) {
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

// policyServer returns whom a room wants to be asked, if that server is in the room; named is what stands at policyKey.
func (s *Server) policyServer(ctx context.Context, room rooms.Room, named *rooms.Event) (p PolicyServer, inUse bool, err error) {
	if p, inUse = policyOf(named); !inUse {
		return p, false, nil
	}
	inUse, err = s.MayBeIn(ctx, room, p.Name)
	return p, inUse, err
}

// wants says whether an event lacks the signature of a policy server that it should have.
func (p PolicyServer) wants(ev *event.Event) bool {
	if ev.IsState() && ev.StateID() == policyKey {
		return false
	}
	return p.Key == nil || event.VerifySignature(ev, p.Name, policyKeyID, p.Key) != nil
}

// Limits of asking policy servers.
const (
	policyTimeout    = 5 * time.Second  // for one event
	policyPatience   = 10 * time.Second // for all events that came together
	policyPause      = 30 * time.Second // one that cannot be reached is not asked again
	maxPolicyAsked   = 16               // requests to one policy server at a time
	maxPolicyServers = 1000             // of which it is remembered how they are
)

// policies knows how the policy servers are.
type policies struct {
	mu    sync.Mutex
	known map[matrix.ServerName]*policyState
}

type policyState struct {
	slots     chan struct{}
	downUntil time.Time // guarded by policies.mu
}

func (l *policies) of(name matrix.ServerName) *policyState {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil || len(l.known) >= maxPolicyServers && l.known[name] == nil {
		l.known = make(map[matrix.ServerName]*policyState)
	}
	if l.known[name] == nil {
		l.known[name] = &policyState{slots: make(chan struct{}, maxPolicyAsked)}
	}
	return l.known[name]
}

// enter waits for a turn to ask, for a while.
func (p *policyState) enter(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *policyState) leave() { <-p.slots }

func (l *policies) isDown(p *policyState, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(p.downUntil)
}

func (l *policies) setDown(p *policyState, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.downUntil = until
}

// recommended returns an event with the signature of a policy server, which is asked for it. The error is what the client
// is told: what the policy server says, or that it cannot be reached, which is then believed for a while.
// https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event
func (s *Server) recommended(ctx context.Context, p PolicyServer, ev *event.Event) (*event.Event, error) {
	unreachable := matrix.Errorf(matrix.Unknown, "the policy server %s of this room cannot be reached", p.Name).WithStatus(502)
	how := s.policies.of(p.Name)
	if !how.enter(ctx) {
		return nil, unreachable
	}
	defer how.leave()
	if p.Name == s.name || s.policies.isDown(how, s.now()) {
		return nil, unreachable
	}
	asking, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	signed, err := s.remote.PolicySign(asking, p, ev)
	var said *matrix.Error
	switch {
	case errors.As(err, &said) && said.Status() < 500:
		return nil, said
	case err != nil:
		if ctx.Err() == nil { // else it is who asks that has no more time
			s.policies.setDown(how, s.now().Add(policyPause))
		}
		return nil, unreachable
	case signed.ID != ev.ID || p.wants(signed):
		return nil, matrix.Errorf(matrix.Forbidden, "the policy server %s of this room has not signed the event", p.Name)
	}
	return signed, nil
}

// askPolicy is the station of Receive in which events that came without the signature of the room's policy server get it,
// or are noted as unwanted. It goes by the current state as it is before them; the owner holds what is noted against the
// state that is current then.
// https://spec.matrix.org/v1.19/server-server-api/#validating-policy-server-signatures
func (f *fetch) askPolicy(ctx context.Context) error {
	state, err := f.server.Current(ctx, f.room.ID)
	if err != nil {
		return err
	}
	named, err := state.Event(ctx, policyKey)
	if err != nil {
		return err
	}
	p, inUse, err := f.server.policyServer(ctx, f.room, named)
	if err != nil || !inUse {
		return err
	}
	var unsigned []int
	for i, ev := range f.batch {
		if f.isWanted(ev) && p.wants(ev) {
			unsigned = append(unsigned, i)
		}
	}
	f.hints.policy, f.hints.unwanted = named.Num, make(map[matrix.EventID]string)
	ctx, cancel := context.WithTimeout(ctx, policyPatience)
	defer cancel()
	for some := range slices.Chunk(unsigned, maxPolicyAsked) {
		f.askPolicyAbout(ctx, p, some)
	}
	return nil
}

// askPolicyAbout asks about some events of the batch at once.
func (f *fetch) askPolicyAbout(ctx context.Context, p PolicyServer, some []int) {
	signed, refused := make([]*event.Event, len(some)), make([]error, len(some))
	var wait sync.WaitGroup
	for i, at := range some {
		wait.Go(func() { signed[i], refused[i] = f.server.recommended(ctx, p, f.batch[at]) })
	}
	wait.Wait()
	for i, at := range some {
		if refused[i] != nil {
			f.hints.unwanted[f.batch[at].ID] = refused[i].Error()
			continue
		}
		f.batch[at] = signed[i]
		f.inBatch[signed[i].ID] = signed[i]
	}
}

// unwanted says why the policy server that the room has now does not want an event: an *auth.Rejection.
func (st *step) unwanted(ev *event.Event) error {
	why, unwanted := st.hints.unwanted[ev.ID]
	if !unwanted || st.tip.policy == nil || st.tip.policy.Num != st.hints.policy {
		return nil
	}
	return &auth.Rejection{Rule: "policy server", Reason: why}
}

// stillUnwanted says why an event that was kept out stays so when it is judged anew: it came without the signature of the
// policy server, or this was refused. It is not asked about again.
func (st *step) stillUnwanted(ctx context.Context, ev *rooms.Event) (why, err error) {
	if ev.Kind == rooms.Live {
		return nil, nil
	}
	p, inUse, err := st.server.policyServer(ctx, st.room, st.tip.policy)
	if err != nil || !inUse || !p.wants(ev.Event) {
		return nil, err
	}
	return &auth.Rejection{Rule: "policy server", Reason: fmt.Sprintf("%s has not signed the event", p.Name)}, nil
}

// recommendedIn returns an event for a room as its policy server, if it has one, wants it.
func (s *Server) recommendedIn(ctx context.Context, room rooms.Room, ev *event.Event) (*event.Event, error) {
	state, err := s.Current(ctx, room.ID)
	if err != nil {
		return nil, err
	}
	named, err := state.Event(ctx, policyKey)
	if err != nil {
		return nil, err
	}
	p, inUse, err := s.policyServer(ctx, room, named)
	if err != nil || !inUse || !p.wants(ev) {
		return ev, err
	}
	return s.recommended(ctx, p, ev)
}
