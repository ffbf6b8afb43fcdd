package syncapi

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/roomserver/view"
)

// maxTimeout is the longest a request is held, whatever it asks for.
const maxTimeout = 5 * time.Minute

// request is one /sync, its parameters read.
type request struct {
	by         matrix.Requester
	filter     *view.Filter
	since      view.SyncToken // what the client came with
	told       view.SyncToken // since, or later if there was nothing for the client from there on
	initial    bool           // no since, or one of another life of the database
	lost       bool           // initial, though the client may remember something
	fullState  bool
	stateAfter bool // use_state_after
	presence   string
	timeout    time.Duration
}

// sync tells a client what is new since its token, or everything without one. It
// holds the request until there is something, or the timeout is over.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync
func (a *API) sync(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	a.Accounts.Seen(c.Requester, c.IP())
	u, err := a.hub.enter(ctx, c.User)
	if err != nil {
		return nil, err
	}
	defer u.leave()
	r, err := a.readRequest(ctx, c, u)
	if err != nil {
		return nil, err
	}
	a.acknowledge(ctx, u, r)
	defer a.Ephemeral.Syncing(c.User, r.presence)()
	news := u.subscribe()
	defer u.unsubscribe(news)
	// What the client did before it asked must be in the answer.
	if err := a.hub.reach(ctx, a.hub.tip()); err != nil {
		return nil, err
	}
	return a.poll(ctx, c, r, waiter{u, news})
}

// waiter is who waits, and for what.
type waiter struct {
	user *user
	news <-chan struct{}
}

// poll answers once there is something to tell, or no more time.
func (a *API) poll(ctx context.Context, c *httpapi.Call, r *request, w waiter) (*httpapi.Raw, error) {
	if r.timeout == 0 || !a.nothingFor(w.user, r) {
		built, err := a.build(ctx, w.user, r)
		if err != nil || built.something || r.timeout == 0 {
			return (*httpapi.Raw)(&built.body), err
		}
		r.told = built.token
	}
	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	for {
		over := false
		select {
		case <-w.news:
			runtime.Gosched() // where many wait, what comes meanwhile goes into the same answer
		case <-timer.C:
			over = true
		case <-c.Stopping():
			over = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		built, err := a.build(ctx, w.user, r)
		if err != nil || built.something || over {
			return (*httpapi.Raw)(&built.body), err
		}
		r.told = built.token
	}
}

// nothingFor says whether it is sure, at a glance, that there is nothing to tell:
// so it is for most clients that come back at once with the token they were given.
func (a *API) nothingFor(u *user, r *request) bool {
	return r.told.Boot == a.Ephemeral.Boot() && r.told.Ephemeral == a.Ephemeral.Counter() &&
		a.hub.quiet(u, r.told)
}

// readRequest reads the parameters.
func (a *API) readRequest(ctx context.Context, c *httpapi.Call, u *user) (*request, error) {
	r := &request{by: c.Requester, initial: true, presence: ephemeral.Online}
	var err error
	if r.filter, err = a.filterOf(ctx, u, c.Query("filter")); err != nil {
		return nil, err
	}
	if text := c.Query("since"); text != "" {
		if r.since, err = view.ParseSyncToken(text); err != nil {
			return nil, err
		}
		r.initial = r.since.Incarnation != a.DB.Incarnation() || max(r.since.Position, r.since.ToDevice) > a.DB.Position()
	}
	if r.initial {
		r.lost, r.since = r.since != view.SyncToken{}, view.SyncToken{}
	}
	r.told = r.since
	if r.fullState, err = boolean(c, "full_state"); err != nil {
		return nil, err
	}
	after, err1 := boolean(c, "use_state_after")
	unstable, err2 := boolean(c, "org.matrix.msc4222.use_state_after")
	if err1 != nil || err2 != nil {
		return nil, matrix.Errorf(matrix.InvalidParam, "use_state_after must be true or false")
	}
	r.stateAfter = after || unstable
	if p := c.Query("set_presence"); p != "" {
		if p != ephemeral.Online && p != ephemeral.Unavailable && p != ephemeral.Offline {
			return nil, matrix.Errorf(matrix.InvalidParam, "set_presence must be online, unavailable or offline, not %q", p)
		}
		r.presence = p
	}
	r.timeout, err = timeout(c)
	if r.initial || r.fullState {
		r.timeout = 0
	}
	return r, err
}

func boolean(c *httpapi.Call, name string) (bool, error) {
	switch c.Query(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, matrix.Errorf(matrix.InvalidParam, "%s must be true or false", name)
}

func timeout(c *httpapi.Call) (time.Duration, error) {
	text := c.Query("timeout")
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 {
		return 0, matrix.Errorf(matrix.InvalidParam, "timeout must be a number of milliseconds, not %q", text)
	}
	return time.Duration(min(ms, maxTimeout.Milliseconds())) * time.Millisecond, nil
}

// Limits of the parsed filters that are kept.
const (
	maxKeptFilters = 16   // of one user, by ID
	maxKnownTexts  = 512  // of all users, by text
	maxKnownText   = 4096 // bytes of one
)

// filterTexts remembers the filters that clients send with each request.
type filterTexts struct {
	mu     sync.RWMutex
	parsed map[string]*view.Filter
}

// parse returns the filter of a text. It is the same one as before, if it is remembered.
func (t *filterTexts) parse(text string) (*view.Filter, error) {
	t.mu.RLock()
	known := t.parsed[text]
	t.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	f, err := view.ParseFilter([]byte(text))
	if err != nil || len(text) > maxKnownText {
		return f, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parsed == nil || len(t.parsed) >= maxKnownTexts {
		t.parsed = map[string]*view.Filter{}
	}
	t.parsed[text] = f
	return f, nil
}

// everything is the filter of who gives none.
var everything = &view.Filter{}

// filterOf returns the filter that the parameter holds or names; the empty one if there is none.
func (a *API) filterOf(ctx context.Context, u *user, parameter string) (*view.Filter, error) {
	if parameter == "" {
		return everything, nil
	}
	if strings.HasPrefix(parameter, "{") {
		return a.filters.parse(parameter)
	}
	u.mu.Lock()
	kept := u.filters[parameter]
	u.mu.Unlock()
	if kept != nil {
		return kept, nil
	}
	content, err := a.Accounts.Filter(ctx, u.id, parameter)
	if matrix.CodeOf(err) == matrix.NotFound {
		return nil, matrix.Errorf(matrix.InvalidParam, "there is no filter %q", parameter)
	}
	if err != nil {
		return nil, err
	}
	f, err := view.ParseFilter(content)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.filters == nil || len(u.filters) >= maxKeptFilters {
		u.filters = map[string]*view.Filter{}
	}
	u.filters[parameter] = f
	return f, nil
}
