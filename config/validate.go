package config

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/myelin-chat/myelin/matrix"
)

// Limits of numbers: wider ones are mistakes, or would stop the server.
const (
	minPasswordHashCost = 4 // of bcrypt
	maxPasswordHashCost = 18
	maxPort             = 65535
	maxPerSecond        = 1e6
	maxBurst            = 1e6
)

// Validate returns all that is wrong with c, as Problems. It looks at nothing but c: whether files, databases and
// ports are there is found out by who uses them.
func (c Config) Validate() error { return c.problems().orNil() }

func (c Config) problems() Problems {
	var p Problems
	c.checkIdentity(&p)
	c.checkListeners(&p)
	c.checkAddresses(&p)
	c.checkChoices(&p)
	c.checkFederation(&p)
	c.checkLimits(&p)
	c.checkMedia(&p)
	c.checkMail(&p)
	c.checkTURN(&p)
	return p
}

func (c Config) checkIdentity(p *Problems) {
	if c.ServerName == "" {
		p.add("server_name", "must be set: the name in user IDs, such as example.org")
	} else if _, err := matrix.ParseServerName(string(c.ServerName)); err != nil {
		p.add("server_name", "%s", reason(err))
	}
	if c.DataDir == "" {
		p.add("data_dir", "must not be empty")
	}
	for i, file := range c.AppServices {
		if file == "" {
			p.add(index("app_services", i), "must name a file")
		}
	}
}

// checkListeners looks at each listener alone, and for two that want one address.
func (c Config) checkListeners(p *Problems) {
	if len(c.Listen) == 0 {
		p.add("listen", "must have at least one address")
	}
	seen := map[string]bool{}
	for i, l := range c.Listen {
		key := index("listen", i)
		if text := addressProblem(l.Address); text != "" {
			p.add(key+".address", "%s", text)
		} else if seen[l.Address] {
			p.add(key+".address", "%s is listened on twice", l.Address)
		}
		seen[l.Address] = true
		if l.TLSCert != "" && l.TLSKey == "" {
			p.add(key+".tls_key", "must be set beside tls_cert")
		}
		if l.TLSKey != "" && l.TLSCert == "" {
			p.add(key+".tls_cert", "must be set beside tls_key")
		}
		for j, s := range l.Serve {
			if !slices.Contains(services, s) {
				p.add(index(key+".serve", j), "must be one of %s", join(services))
			}
		}
	}
}

func (c Config) checkAddresses(p *Problems) {
	for i, text := range c.TrustedProxies {
		if _, err := network(text); err != nil {
			p.add(index("trusted_proxies", i), "must be a network such as 10.0.0.0/8, or an address")
		}
	}
	checkBaseURL(p, "public_url", c.PublicURL)
	checkBaseURL(p, "well_known.client", c.WellKnown.Client)
	if c.WellKnown.Server != "" {
		if _, err := matrix.ParseServerName(c.WellKnown.Server); err != nil {
			p.add("well_known.server", "must be host or host:port, without https://")
		}
	}
	if c.Database != "sqlite" && !isPostgres(string(c.Database)) {
		p.add("database", "must be sqlite or a postgres:// URL")
	}
	if n := string(c.NATS); n != "embedded" {
		for _, one := range strings.Split(n, ",") {
			if !isURL(strings.TrimSpace(one), "nats", "tls") {
				p.add("nats", "must be embedded or nats:// URLs separated by commas")
				return
			}
		}
	}
}

// Proxies are the networks of TrustedProxies.
func (c Config) Proxies() []netip.Prefix {
	networks := make([]netip.Prefix, 0, len(c.TrustedProxies))
	for _, text := range c.TrustedProxies {
		if n, err := network(text); err == nil { // Validate has told of the others
			networks = append(networks, n)
		}
	}
	return networks
}

// network reads a network; an address is one of its own.
func network(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, errors.New("zones are of no use here")
		}
		return addr.Unmap().Prefix(addr.Unmap().BitLen())
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is no network", text)
	}
	return prefix.Masked(), nil
}

// roomVersion is the grammar of room versions. https://spec.matrix.org/v1.19/rooms/#room-version-grammar
var roomVersion = regexp.MustCompile(`^[a-z0-9.-]{1,32}$`)

// checkChoices knows the grammar of room versions and not the versions: which of them this server has, event says.
func (c Config) checkChoices(p *Problems) {
	oneOf(p, "registration", c.Registration, Closed, WithToken, Open)
	oneOf(p, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf(p, "log.format", c.Log.Format, "text", "json")
	if !roomVersion.MatchString(string(c.DefaultRoomVersion)) {
		p.add("default_room_version", "is no room version")
	}
	if c.PasswordHashCost < minPasswordHashCost || c.PasswordHashCost > maxPasswordHashCost {
		p.add("password_hash_cost", "must be between %d and %d", minPasswordHashCost, maxPasswordHashCost)
	}
}

func (c Config) checkFederation(p *Problems) {
	checkPatterns(p, "federation.allow", c.Federation.Allow)
	checkPatterns(p, "federation.deny", c.Federation.Deny)
	for i, name := range c.Federation.KeyServers {
		if _, err := matrix.ParseServerName(string(name)); err != nil {
			p.add(index("federation.key_servers", i), "%s", reason(err))
		}
	}
}

// checkPatterns takes what the lists of servers may have: names, and * in the place of the first labels.
func checkPatterns(p *Problems, key string, patterns []string) {
	for i, pattern := range patterns {
		if _, err := matrix.ParseServerName(strings.TrimPrefix(pattern, "*.")); err != nil {
			p.add(index(key, i), "must be a server name or *.domain")
		}
	}
}

func (c Config) checkLimits(p *Problems) {
	for name, limit := range c.RateLimits.All() {
		if !(limit.PerSecond > 0 && limit.PerSecond <= maxPerSecond) {
			p.add("rate_limits."+name+".per_second", "must be above 0 and at most a million")
		}
		if limit.Burst < 1 || limit.Burst > maxBurst {
			p.add("rate_limits."+name+".burst", "must be between 1 and a million")
		}
	}
}

func (c Config) checkMedia(p *Problems) {
	if c.Media.MaxUploadBytes < 1 {
		p.add("media.max_upload_bytes", "must be above 0")
	}
	if c.Media.RemoteCacheBytes < 0 {
		p.add("media.remote_cache_bytes", "must not be below 0")
	}
	for i, pattern := range c.Media.AllowedTypes {
		kind, params, err := mime.ParseMediaType(pattern)
		if err != nil || len(params) > 0 || strings.Count(kind, "/") != 1 {
			p.add(index("media.allowed_types", i), "must be like image/png or image/*")
		}
	}
}

// checkMail asks for what goes with a mail server only if there is one.
func (c Config) checkMail(p *Problems) {
	oneOf(p, "smtp.tls", c.SMTP.TLS, "starttls", "tls", "none")
	if c.SMTP.Password != "" && c.SMTP.Username == "" {
		p.add("smtp.username", "must be set beside smtp.password")
	}
	if c.SMTP.Address == "" {
		return
	}
	if text := addressProblem(c.SMTP.Address); text != "" {
		p.add("smtp.address", "%s", text)
	}
	if _, err := mail.ParseAddress(c.SMTP.From); err != nil {
		p.add("smtp.from", "must be a mail address")
	}
}

func (c Config) checkTURN(p *Problems) {
	for i, uri := range c.TURN.URIs {
		scheme, rest, _ := strings.Cut(uri, ":")
		if !slices.Contains([]string{"turn", "turns", "stun", "stuns"}, scheme) || rest == "" {
			p.add(index("turn.uris", i), "must be like turn:turn.example.org?transport=udp")
		}
	}
	if c.TURN.LifetimeSeconds < 1 {
		p.add("turn.lifetime_seconds", "must be above 0")
	}
}

// addressProblem says what is wrong with host:port, in words; nothing if it is right.
func addressProblem(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "must be host:port"
	}
	if n, err := strconv.ParseUint(port, 10, 32); err != nil || n > maxPort {
		return "must end in a port between 0 and 65535"
	}
	if host != "" && net.ParseIP(host) == nil && strings.ContainsAny(host, " /:@%") {
		return "must begin with a host name or an IP address"
	}
	return ""
}

func checkBaseURL(p *Problems, key, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	if err != nil || !isURL(text, "http", "https") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		p.add(key, "must be a URL such as https://matrix.example.org")
	}
}

func isURL(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Hostname() != "" && slices.Contains(schemes, u.Scheme)
}

// isPostgres permits a URL without a host, which is a server on this machine.
func isPostgres(text string) bool {
	u, err := url.Parse(text)
	return err == nil && strings.Contains(text, "://") && (u.Scheme == "postgres" || u.Scheme == "postgresql")
}

func oneOf[T ~string](p *Problems, key string, value T, choices ...T) {
	if !slices.Contains(choices, value) {
		p.add(key, "must be one of %s", join(choices))
	}
}

func join[T ~string](choices []T) string {
	texts := make([]string, len(choices))
	for i, c := range choices {
		texts[i] = string(c)
	}
	return strings.Join(texts, ", ")
}

// reason is the text of a Matrix error without its code.
func reason(err error) string {
	if e, ok := err.(*matrix.Error); ok {
		return e.Message
	}
	return err.Error()
}
