package httpapi

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// Limits are the rate limits that routes name. All are nil, which means none, if limits are switched off.
type Limits struct {
	Login, Register, Send, Join, Invite, CreateRoom, Ephemeral, Sync, Read, Write, Admin *Limit
}

// NewLimits makes the limits of the configuration.
func NewLimits(c config.RateLimits, now func() time.Time) Limits {
	if !c.Enabled {
		return Limits{}
	}
	limit := func(l config.Limit) *Limit { return NewLimit(l, now) }
	return Limits{
		Login: limit(c.Login), Register: limit(c.Register), Send: limit(c.Send), Join: limit(c.Join),
		Invite: limit(c.Invite), CreateRoom: limit(c.CreateRoom), Ephemeral: limit(c.Ephemeral), Sync: limit(c.Sync),
		Read: limit(c.Read), Write: limit(c.Write), Admin: limit(c.Admin),
	}
}

const (
	// generationSize is how many buckets are kept in a generation; there are two.
	generationSize = 50_000
	// longestWait is what a client is told at most.
	longestWait = time.Hour
)

// Limit is a token bucket for each user, or for each address where there is no user.
//
// A bucket that was not asked for while generationSize others were is forgotten, so the memory is bounded whatever
// addresses are tried.
type Limit struct {
	perSecond rate.Limit
	burst     int
	now       func() time.Time

	mu           sync.Mutex
	young, older map[bucketKey]*rate.Limiter
}

// bucketKey is whose bucket it is: a name or an address.
type bucketKey struct {
	name string
	addr netip.Addr
}

// NewLimit makes a limit of its own.
func NewLimit(c config.Limit, now func() time.Time) *Limit {
	return &Limit{
		perSecond: rate.Limit(c.PerSecond), burst: c.Burst, now: now,
		young: make(map[bucketKey]*rate.Limiter),
	}
}

// Check takes one from the bucket of name, for limits that a handler has to ask itself, such as failed logins into one
// account. The error is M_LIMIT_EXCEEDED.
func (l *Limit) Check(name string) error {
	if l == nil {
		return nil
	}
	return l.check(bucketKey{name: name})
}

func (l *Limit) check(key bucketKey) error {
	now := l.now()
	reservation := l.bucket(key).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	reservation.CancelAt(now)
	ms := int64(math.Ceil(float64(min(wait, longestWait)) / float64(time.Millisecond)))
	return matrix.Errorf(matrix.LimitExceeded, "too many requests").With("retry_after_ms", ms)
}

func (l *Limit) bucket(key bucketKey) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.young[key]; b != nil {
		return b
	}
	b := l.older[key]
	if b == nil {
		b = rate.NewLimiter(l.perSecond, l.burst)
	}
	if len(l.young) >= generationSize {
		l.older, l.young = l.young, make(map[bucketKey]*rate.Limiter)
	}
	l.young[key] = b
	return b
}
