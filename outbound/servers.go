package outbound

import (
	"strings"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// serverList says which servers are talked to. A pattern is a server name, or "*." and a name for all below that one.
type serverList struct{ allow, deny []string }

func newServerList(f config.Federation) serverList {
	return serverList{allow: plain(f.Allow), deny: plain(f.Deny)}
}

func plain(patterns []string) []string {
	list := make([]string, len(patterns))
	for i, pattern := range patterns {
		list[i] = plainName(pattern)
	}
	return list
}

// plainName is the same for names that lead to the same place.
func plainName(name string) string {
	server := matrix.ServerName(strings.ToLower(name))
	host := strings.TrimRight(server.Host(), ".")
	if port := server.Port(); port != "" {
		return host + ":" + port
	}
	return host
}

func (l serverList) permit(s matrix.ServerName) bool {
	name := plainName(string(s))
	return !matchesAny(l.deny, name) && (len(l.allow) == 0 || matchesAny(l.allow, name))
}

// matchesAny compares without the port where a pattern has none: with another port a host is not another one.
func matchesAny(patterns []string, name string) bool {
	host := matrix.ServerName(name).Host()
	for _, pattern := range patterns {
		of := host
		if matrix.ServerName(pattern).Port() != "" {
			of = name
		}
		below, isTree := strings.CutPrefix(pattern, "*")
		if pattern == of || isTree && strings.HasSuffix(of, below) {
			return true
		}
	}
	return false
}
