package matrix

import (
	"net/netip"
	"strings"
)

const (
	maxHostBytes  = 255
	maxPortDigits = 5
)

// ServerName names a homeserver: a host and, where given, a port. Names are
// compared byte by byte, upper case is not lower case.
//
// https://spec.matrix.org/v1.19/appendices/#server-name
type ServerName string

// ParseServerName checks s against the grammar of server names.
func ParseServerName(s string) (ServerName, error) {
	if !validServerName(s) {
		return "", Errorf(InvalidParam, "%s is not a server name", quote(s))
	}
	return ServerName(s), nil
}

// Host returns the name without its port. An IPv6 address keeps its brackets.
func (s ServerName) Host() string {
	host, _, _ := splitPort(string(s))
	return host
}

// Port returns the digits after the host, or "" if the name has no port. The
// grammar allows any five digits, so they need not be a port one can dial.
func (s ServerName) Port() string {
	_, port, _ := splitPort(string(s))
	return port
}

// IsIPLiteral reports whether the host is an address, which is connected to
// without any discovery.
func (s ServerName) IsIPLiteral() bool {
	host := s.Host()
	if strings.HasPrefix(host, "[") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

func validServerName(s string) bool {
	host, port, hasPort := splitPort(s)
	if hasPort && !validPort(port) {
		return false
	}
	if len(host) > maxHostBytes {
		return false
	}
	if strings.HasPrefix(host, "[") {
		return validIPv6Literal(host)
	}
	return host != "" && consistsOf(host, isDNSByte)
}

// splitPort cuts s at the colon that begins a port: the first one, or the
// first behind the brackets of an IPv6 address.
func splitPort(s string) (host, port string, hasPort bool) {
	from := 0
	if strings.HasPrefix(s, "[") {
		from = strings.IndexByte(s, ']') + 1
	}
	colon := strings.IndexByte(s[from:], ':')
	if colon < 0 {
		return s, "", false
	}
	colon += from
	return s[:colon], s[colon+1:], true
}

func validPort(s string) bool {
	return s != "" && len(s) <= maxPortDigits && consistsOf(s, isDigit)
}

func validIPv6Literal(s string) bool {
	inner, closed := strings.CutSuffix(s[1:], "]")
	if !closed {
		return false
	}
	addr, err := netip.ParseAddr(inner)
	return err == nil && addr.Is6() && addr.Zone() == ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

func isAlphanumeric(c byte) bool { return isDigit(c) || isLower(c) || 'A' <= c && c <= 'Z' }

func isDNSByte(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '.' }

func consistsOf(s string, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}
