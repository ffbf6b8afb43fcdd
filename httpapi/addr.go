package httpapi

import (
	"net/netip"
	"strings"
)

// clientAddr finds the address of the client by the rule of the package comment. It is invalid if the connection has
// none, as that of a socket file.
func clientAddr(remote string, forwardedFor []string, proxies []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	client := peer.Addr().Unmap().WithZone("")
	for line := len(forwardedFor) - 1; line >= 0; line-- {
		rest := forwardedFor[line]
		for rest != "" {
			if !trusted(client, proxies) {
				return client
			}
			var last string
			rest, last = cutLast(rest)
			addr, err := netip.ParseAddr(strings.TrimSpace(last))
			if err != nil {
				return client // the last proxy that is known to be one
			}
			client = addr.Unmap().WithZone("")
		}
	}
	return client
}

// cutLast cuts the last element from a list with commas.
func cutLast(list string) (before, last string) {
	comma := strings.LastIndexByte(list, ',')
	if comma < 0 {
		return "", list
	}
	return list[:comma], list[comma+1:]
}

func trusted(addr netip.Addr, proxies []netip.Prefix) bool {
	if addr.IsLoopback() {
		return true
	}
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// network is what a rate limit takes for one client: whoever has one IPv6 address has the whole /64.
func network(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}
