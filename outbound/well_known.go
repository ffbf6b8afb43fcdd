package outbound

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// How long the answer of a discovery file is kept.
// https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
const (
	minWellKnownLife     = 5 * time.Minute
	defaultWellKnownLife = 24 * time.Hour
	maxWellKnownLife     = 48 * time.Hour

	firstWellKnownPause = 30 * time.Second // after a failure; doubled with each further one
	maxWellKnownPause   = time.Hour
)

var wellKnownRules = Rules{MaxBytes: 50 << 10, Timeout: 10 * time.Second, Redirects: 10}

// wellKnown is what came of asking for a discovery file.
type wellKnown struct {
	to     matrix.ServerName // empty: nobody is named
	life   time.Duration     // if somebody is
	silent bool              // no answer, so it may be that somebody is named
}

// delegation is what is remembered of it.
type delegation struct {
	to       matrix.ServerName // empty: the server itself
	fetched  time.Time         // when to was named
	failures int               // since then
	until    time.Time         // when it is asked again
}

// delegation returns to whom a server has delegated. Who was named once stays so through an outage of the discovery
// file, as long as an answer may be kept at all: requests must not go elsewhere because a web server is down.
func (d *discovery) delegation(ctx context.Context, name matrix.ServerName) delegation {
	old, fresh := d.delegations.get(string(name), d.now())
	if fresh {
		return old
	}
	answer := d.fetch(ctx, string(name))
	now := d.now()
	found := delegation{to: answer.to, fetched: now, until: now.Add(answer.life)}
	if answer.to == "" {
		found = delegation{failures: old.failures + 1}
		found.until = now.Add(wellKnownPause(found.failures))
		if answer.silent && now.Sub(old.fetched) < maxWellKnownLife {
			found.to, found.fetched = old.to, old.fetched
		}
	}
	d.delegations.put(string(name), found, found.until)
	return found
}

func wellKnownPause(failures int) time.Duration {
	return min(firstWellKnownPause<<min(failures-1, 10), maxWellKnownPause)
}

// fetchWellKnown asks host for its discovery file.
func (c *Client) fetchWellKnown(ctx context.Context, host string) wellKnown {
	answer, err := c.do(ctx, c.peers, Request{
		URL: "https://" + host + "/.well-known/matrix/server", Rules: wellKnownRules,
	})
	if err != nil {
		return wellKnown{silent: true}
	}
	defer answer.Close()
	if answer.Status != http.StatusOK {
		return wellKnown{silent: answer.Status >= 500 || answer.Status == http.StatusTooManyRequests}
	}
	text, err := answer.Bytes()
	if err != nil {
		return wellKnown{silent: true}
	}
	to, ok := parseWellKnown(text)
	if !ok {
		return wellKnown{}
	}
	return wellKnown{to: to, life: wellKnownLife(answer.Header, c.settings.Now())}
}

// parseWellKnown returns the server named by a discovery file, whatever its content type was.
// https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver
func parseWellKnown(text []byte) (matrix.ServerName, bool) {
	obj, err := canonical.JSON(text, canonical.Lenient)
	if err != nil {
		return "", false
	}
	name, ok := canonical.String(canonical.Get(obj, "m.server"))
	if !ok {
		return "", false
	}
	to, err := matrix.ParseServerName(name)
	return to, err == nil
}

// wellKnownLife is what the headers say, within bounds.
func wellKnownLife(h http.Header, now time.Time) time.Duration {
	life := defaultWellKnownLife
	if expires, err := http.ParseTime(h.Get("Expires")); err == nil {
		life = expires.Sub(now)
	}
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return minWellKnownLife
		case "max-age":
			if seconds, ok := parseSeconds(strings.Trim(value, `"`)); ok {
				age, _ := parseSeconds(h.Get("Age"))
				life = seconds - age
			}
		}
	}
	return min(max(life, minWellKnownLife), maxWellKnownLife)
}

// parseSeconds reads a number of seconds; one that is too large for that is a very long time.
func parseSeconds(digits string) (time.Duration, bool) {
	const longest = 365 * 24 * time.Hour
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > int64(longest/time.Second) {
		return longest, true
	}
	return time.Duration(n) * time.Second, true
}
