package outbound

import (
	"fmt"
	"net/netip"
)

// AddressError says that a connection was refused because of where it leads.
type AddressError struct {
	Host    string // as it was asked for
	Address netip.Addr
}

// Error names the address.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%s is at %s, to where this server makes no connections", e.Host, e.Address)
}

var (
	// reservedIPv4 are the networks that are no part of the public internet.
	// https://www.iana.org/assignments/iana-ipv4-special-registry
	reservedIPv4 = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	)
	// publicIPv6 is all that was ever given out for the public internet, and reservedIPv6 what of it is not: Teredo
	// and other protocols, documentation, 6to4. The old and the transitional forms, unique local and link-local
	// addresses lie outside.
	// https://www.iana.org/assignments/iana-ipv6-special-registry
	publicIPv6   = netip.MustParsePrefix("2000::/3")
	reservedIPv6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

	// translatedIPv4 holds IPv4 addresses in its last four bytes, for networks that have IPv6 only.
	// https://www.rfc-editor.org/rfc/rfc6052
	translatedIPv4 = netip.MustParsePrefix("64:ff9b::/96")

	broadcast = netip.MustParseAddr("255.255.255.255")
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// permitted says whether a connection to a may be made. An IPv4 address inside an IPv6 address is looked at itself:
// that is where the connection would end. Nobody lives at an address that is unspecified or of many, so private makes
// no difference to those; and 0.0.0.0 would lead to this machine.
func permitted(a netip.Addr, private bool) bool {
	a = embedded(a)
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == broadcast {
		return false
	}
	return private || public(a)
}

func public(a netip.Addr) bool {
	if a.Is4() {
		return !within(reservedIPv4, a)
	}
	return publicIPv6.Contains(a) && !within(reservedIPv6, a)
}

func within(networks []netip.Prefix, a netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address in a, or a. The zone of an address that belongs to one network card is dropped:
// prefixes contain no address that has one.
func embedded(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !translatedIPv4.Contains(a) {
		return a
	}
	bytes := a.As16()
	return netip.AddrFrom4([4]byte(bytes[12:]))
}
