// Package keys knows the signing keys of servers: it publishes our own, finds those of others, and checks signatures
// with them.
//
// A key is asked of its server, and of the notaries in the settings where that fails; what was found is stored, and kept
// in memory within bounds. Whoever needs the same server's keys at the same time waits for one request. A server that
// does not answer is not asked again for a while, which grows.
//
// The package promises that a signature it accepts was made with a key that its server published, at a time when the
// rules of the room version let that key sign. As a notary it tells others what it knows. Who may ask, and how often, is
// decided by who calls it.
//
// https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

// ErrUnavailable says that a key could not be had now, so nobody knows whether the signature is right. Later it may be.
var ErrUnavailable = errors.New("the signing key cannot be had now")

// Settings are what a ring works with.
type Settings struct {
	DB         *storage.DB
	Client     *outbound.Client
	ServerName matrix.ServerName
	Key        signing.Key
	KeyServers []matrix.ServerName // the notaries, in the order to ask them
	Now        func() time.Time
	Log        *slog.Logger
}

// Ring is the key ring of this server. All methods may be called from any goroutine.
type Ring struct {
	settings Settings
	own      *known // our own keys, as those of any server
	states   *states
	flights  singleflight.Group // by server
	waits    singleflight.Group // by purpose and server
	helpers  pool

	forEvents   *slots
	forRequests *slots
	forOthers   *slots

	resting resting

	publishing sync.Mutex
	published  published
}

// New makes a ring. It notes the key that this server signs with, so that it stays published when another takes its
// place. It fails if the key's ID once named another key, and if the key is known to others.
func New(ctx context.Context, s Settings) (*Ring, error) {
	if banned(s.Key.Public()) {
		return nil, fmt.Errorf("the signing key %s is known to the public: make another", s.Key.ID())
	}
	ours, err := servers.OwnKeys(ctx, s.DB)
	if err != nil {
		return nil, fmt.Errorf("our own keys: %w", err)
	}
	r := &Ring{
		settings: s, states: newStates(maxStates),
		helpers:     make(pool, runtime.GOMAXPROCS(0)),
		forEvents:   newSlots("events", maxEventFetches),
		forRequests: newSlots("requests", maxRequestFetches),
		forOthers:   newSlots("others", maxNotarialFetches),
		resting:     resting{until: map[matrix.ServerName]time.Time{}},
	}
	noted, err := r.setOwn(ours)
	if err != nil {
		return nil, err
	}
	if !noted {
		// The committer need not run yet.
		s.DB.Submit(servers.UseKey{ID: s.Key.ID(), Public: s.Key.Public(), AtMS: s.Now().UnixMilli()}, r.logNoted)
	}
	return r, nil
}

// setOwn makes the state of this server itself from the keys that it has used. noted says that the one it uses now is
// among them, as the only one in use.
func (r *Ring) setOwn(ours []servers.OwnKey) (noted bool, err error) {
	current := servers.Key{ID: r.settings.Key.ID(), Public: r.settings.Key.Public(), ValidUntilMS: math.MaxInt64}
	r.own = &known{keys: map[signing.KeyID]servers.Key{current.ID: current}, asked: r.settings.Now()}
	for _, k := range ours {
		switch {
		case k.ID != current.ID:
			retired := k.RetiredMS
			if retired == 0 {
				retired = r.settings.Now().UnixMilli()
			}
			r.own.keys[k.ID] = servers.Key{ID: k.ID, Public: k.Public, ValidUntilMS: retired, Retired: true}
		case !bytes.Equal(k.Public, current.Public):
			return false, fmt.Errorf("the ID %s of the signing key once named another key: others would refuse this one", k.ID)
		default:
			noted = k.RetiredMS == 0
		}
	}
	return noted, nil
}

func (r *Ring) logNoted(_ storage.Position, err error) {
	if err != nil && !errors.Is(err, storage.ErrClosed) {
		r.settings.Log.Error("the signing key was not noted; once another takes its place, it will not be published any more",
			"key", r.settings.Key.ID(), "cause", err)
	}
}

func (r *Ring) nowMS() int64 { return r.settings.Now().UnixMilli() }
