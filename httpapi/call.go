package httpapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/myelin-chat/myelin/matrix"
)

// Call is one request as its handler sees it. It is valid until the handler returns.
type Call struct {
	// Requester is who asks; empty where the route is open.
	matrix.Requester

	token string
	x     *exchange
}

// Path returns the parameter of the route's pattern, decoded. To ask for one that the pattern does not have is a bug,
// and panics.
func (c *Call) Path(name string) string {
	for i, key := range c.x.route.params {
		if key != name {
			continue
		}
		encoded := c.x.params[i]
		if decoded, err := url.PathUnescape(encoded); err == nil {
			return decoded
		}
		return encoded
	}
	panic("httpapi: " + c.x.route.pattern + " has no parameter " + name)
}

// Query returns the first value of a query parameter, or "".
func (c *Call) Query(name string) string {
	value, _ := firstQuery(c.x.r.URL.RawQuery, name)
	return value
}

// HasQuery says whether a query parameter was given, be it empty.
func (c *Call) HasQuery(name string) bool {
	_, found := firstQuery(c.x.r.URL.RawQuery, name)
	return found
}

// QueryAll returns all values of a query parameter.
func (c *Call) QueryAll(name string) []string {
	var values []string
	rest := c.x.r.URL.RawQuery
	for {
		value, after, found := nextQuery(rest, name)
		if !found {
			return values
		}
		values = append(values, value)
		rest = after
	}
}

// Header returns the first value of a request header, or "".
func (c *Call) Header(name string) string { return c.x.r.Header.Get(name) }

// Token returns the access token that the request was made with, or "".
func (c *Call) Token() string { return c.token }

// IP returns the address of the client as text, or "" if it is unknown. The package comment has the rule for proxies.
func (c *Call) IP() string {
	if addr := c.x.clientAddr(); addr.IsValid() {
		return addr.String()
	}
	return ""
}

// Stopping is closed when the server begins to shut down. A long poll waits on it too, and answers with what it has;
// whoever does not, finds its context cancelled a moment later.
func (c *Call) Stopping() <-chan struct{} { return c.x.server.stopping }

// Request returns the request below, for what has no name here. Its body belongs to the handler's input.
func (c *Call) Request() *http.Request { return c.x.r }

// firstQuery finds a parameter without parsing the others: most endpoints have few, and most requests none.
func firstQuery(raw, name string) (value string, found bool) {
	value, _, found = nextQuery(raw, name)
	return value, found
}

// nextQuery returns the first value of name in raw, and what comes after it. Pairs that are wrongly encoded are not
// there.
func nextQuery(raw, name string) (value, rest string, found bool) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		if key, ok := unescapeQuery(key); !ok || key != name {
			continue
		}
		if value, ok := unescapeQuery(value); ok && pair != "" {
			return value, raw, true
		}
	}
	return "", "", false
}

func unescapeQuery(s string) (string, bool) {
	if !strings.ContainsAny(s, "%+") {
		return s, true
	}
	decoded, err := url.QueryUnescape(s)
	return decoded, err == nil
}
