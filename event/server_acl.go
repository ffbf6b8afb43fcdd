package event

import (
	"strings"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// TypeServerACL is the type of the event that says which servers may take part in a room.
const TypeServerACL = "m.room.server_acl"

// ServerACL says which servers may take part in a room. It is never changed, and safe for concurrent use.
// https://spec.matrix.org/v1.19/client-server-api/#mroomserver_acl
type ServerACL struct {
	allow, deny []string // globs, in lower case
	denyIPs     bool
}

// ParseServerACL reads the content of an m.room.server_acl event. What in it has not the form it should have counts as
// absent.
func ParseServerACL(content []byte) *ServerACL {
	return &ServerACL{
		allow:   globs(canonical.Get(content, "allow")),
		deny:    globs(canonical.Get(content, "deny")),
		denyIPs: string(canonical.Get(content, "allow_ip_literals")) == "false",
	}
}

// globs reads a list of globs, without those that match no name whatever: they want more characters than a name has.
func globs(raw []byte) []string {
	if len(raw) == 0 || raw[0] != '[' {
		return nil
	}
	var list []string
	for element := range canonical.Elements(raw) {
		glob, ok := canonical.String(element)
		if ok && len(glob)-strings.Count(glob, "*") <= maxACLHostBytes {
			list = append(list, strings.ToLower(glob))
		}
	}
	return list
}

// Permits says whether a server may take part. Without an ACL, which is nil, all may.
func (a *ServerACL) Permits(s matrix.ServerName) bool {
	if a == nil {
		return true
	}
	if a.denyIPs && s.IsIPLiteral() {
		return false
	}
	host := strings.ToLower(s.Host())
	if len(host) > maxACLHostBytes {
		return false
	}
	positions := positionsIn(host)
	return !positions.matchesAny(a.deny) && positions.matchesAny(a.allow)
}

// maxACLHostBytes is the longest host that a server name has: see [matrix.ParseServerName].
const maxACLHostBytes = 255

// places is a set of the places before, between and behind the characters of a host: place i is before character i.
type places [(maxACLHostBytes + 1) / 64]uint64

// hostIndex is a host, prepared to be matched with many globs: for each character, where it stands.
type hostIndex struct {
	end   int
	of    [256]places
	start places
}

func positionsIn(host string) *hostIndex {
	x := &hostIndex{end: len(host), start: places{1}}
	for i := range len(host) {
		x.of[host[i]][i/64] |= 1 << (i % 64)
	}
	return x
}

func (x *hostIndex) matchesAny(list []string) bool {
	for _, glob := range list {
		if x.matches(glob) {
			return true
		}
	}
	return false
}

// matches goes through a glob once, with all places in the host that what was seen of the glob may lead to. So the time
// does not depend on where the wildcards are, which others choose.
func (x *hostIndex) matches(glob string) bool {
	at := x.start
	for i := range len(glob) {
		switch c := glob[i]; c {
		case '*':
			at = at.andAllAfter()
		case '?':
			at = at.next()
		default:
			at = at.and(&x.of[c]).next()
		}
	}
	return at[x.end/64]&(1<<(x.end%64)) != 0
}

// next moves each place one on. What moves beyond the end of the host is never asked for.
func (p places) next() (moved places) {
	carry := uint64(0)
	for i, word := range p {
		moved[i] = word<<1 | carry
		carry = word >> 63
	}
	return moved
}

func (p places) and(q *places) places {
	for i := range p {
		p[i] &= q[i]
	}
	return p
}

// andAllAfter adds all places after the first.
func (p places) andAllAfter() places {
	found := false
	for i, word := range p {
		switch {
		case found:
			p[i] = ^uint64(0)
		case word != 0:
			p[i] = -(word & -word)
			found = true
		}
	}
	return p
}
