package outbound_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/outbound"
)

func TestPermitted(t *testing.T) {
	tests := []struct {
		address          string
		usually, private bool // without and with allow_private_addresses
	}{
		{"8.8.8.8", true, true},
		{"192.0.3.1", true, true},
		{"100.128.0.1", true, true},
		{"172.32.0.1", true, true},
		{"2600::1", true, true},
		{"2001:4860:4860::8888", true, true},
		{"::ffff:8.8.8.8", true, true},
		{"64:ff9b::8.8.8.8", true, true}, // NAT64, to a public address
		{"127.0.0.1", false, true},
		{"127.255.255.254", false, true},
		{"10.0.0.1", false, true},
		{"172.16.0.1", false, true},
		{"172.31.255.255", false, true},
		{"192.168.1.1", false, true},
		{"169.254.169.254", false, true},
		{"100.64.0.1", false, true},
		{"100.127.255.255", false, true},
		{"0.1.2.3", false, true},
		{"192.0.0.8", false, true},
		{"192.0.2.1", false, true},
		{"198.18.0.1", false, true},
		{"198.19.255.255", false, true},
		{"198.51.100.1", false, true},
		{"203.0.113.1", false, true},
		{"240.0.0.1", false, true},
		{"::1", false, true},
		{"fe80::1", false, true},
		{"fe80::1%eth0", false, true},
		{"fec0::1", false, true},
		{"fc00::1", false, true},
		{"fd12:3456::1", false, true},
		{"::ffff:127.0.0.1", false, true},
		{"::ffff:10.0.0.1", false, true},
		{"::127.0.0.1", false, true}, // IPv4-compatible
		{"::8.8.8.8", false, true},
		{"::ffff:0:127.0.0.1", false, true}, // SIIT
		{"64:ff9b::7f00:1", false, true},
		{"64:ff9b::a9fe:a9fe", false, true},
		{"64:ff9b:1::1", false, true}, // NAT64 of a local network
		{"2002:7f00:1::", false, true},
		{"2002:808:808::1", false, true}, // 6to4
		{"2001::1", false, true},         // Teredo
		{"2001:db8::1", false, true},
		{"3fff::1", false, true},
		{"100::1", false, true},
		{"5f00::1", false, true},
		{"0.0.0.0", false, false},
		{"::", false, false},
		{"::ffff:0.0.0.0", false, false},
		{"64:ff9b::", false, false},
		{"224.0.0.1", false, false},
		{"239.255.255.250", false, false},
		{"255.255.255.255", false, false},
		{"ff02::1", false, false},
		{"::ffff:224.0.0.1", false, false},
	}
	for _, test := range tests {
		a := netip.MustParseAddr(test.address)
		if got := outbound.Permitted(a, false); got != test.usually {
			t.Errorf("%s: got permitted %t, want %t", a, got, test.usually)
		}
		if got := outbound.Permitted(a, true); got != test.private {
			t.Errorf("%s, private addresses allowed: got permitted %t, want %t", a, got, test.private)
		}
	}
	if outbound.Permitted(netip.Addr{}, true) {
		t.Error("no address: got permitted, want refused")
	}
}

// Every way in which a name can lead inside: CVE-2021-21273, CVE-2021-21392, CVE-2024-52594.
func TestCVE_2021_21273_NamesThatLeadInside(t *testing.T) {
	n := newInternet(t)
	for name, address := range map[string]string{
		"internal.example": "10.1.2.3", "mapped.example": "::ffff:127.0.0.1", "nat64.example": "64:ff9b::7f00:1",
		"sixtofour.example": "2002:7f00:1::1", "teredo.example": "2001:0:53aa:64c::1", "unspecified.example": "0.0.0.0",
		"unspecified6.example": "::", "linklocal.example": "169.254.169.254",
		// What a C library takes for an address, this resolver too:
		"0x7f.1": "127.0.0.1", "0177.0.0.1": "127.0.0.1", "2130706433": "127.0.0.1", "127.1": "127.0.0.1",
	} {
		n.name(name, address)
	}
	c := n.client()
	literals := []string{"127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "fe80::1"}
	for name := range n.addresses {
		literals = append(literals, name)
	}
	for _, host := range literals {
		var refused *outbound.AddressError
		if err := c.Dial(t.Context(), host, 443); !errors.As(err, &refused) {
			t.Errorf("%s: got %v, want an *AddressError", host, err)
		}
	}
	if len(n.dialled) > 0 {
		t.Errorf("got connections to %v, want none", n.dialled)
	}
	if got := c.SlotsInUse(); got != 0 {
		t.Errorf("got %d connections open, want 0", got)
	}
}

// A name server that says another thing at each question: what is dialled is what was checked.
func TestRebinding(t *testing.T) {
	n := newInternet(t)
	n.name("rebind.example", "8.8.8.8")
	n.name("rebind.example", "127.0.0.1")
	n.serve("8.8.8.8:443", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
	}, "rebind.example")
	n.serve("127.0.0.1:443", homeserver, "rebind.example")
	c := n.client()
	if err := c.Dial(t.Context(), "rebind.example", 443); err != nil {
		t.Errorf("the first time: got %v, want no error", err)
	}
	var refused *outbound.AddressError
	if err := c.Dial(t.Context(), "rebind.example", 443); !errors.As(err, &refused) {
		t.Errorf("the second time: got %v, want an *AddressError", err)
	}
	if n.wasDialled("127.0.0.1") {
		t.Error("got a connection to 127.0.0.1, want none")
	}
}

// Of a name with addresses of both kinds only the public ones are used.
func TestMixedAddresses(t *testing.T) {
	n := newInternet(t)
	n.name("mixed.example", "10.0.0.1", "::1", "8.8.4.4", "2600::1")
	n.serve("8.8.4.4:443", homeserver, "mixed.example")
	if err := n.client().Dial(t.Context(), "mixed.example", 443); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if n.wasDialled("10.0.0.1") || n.wasDialled("::1") {
		t.Errorf("got connections to %v, want public addresses alone", n.dialled)
	}
}

// A dead address delays by the head start of the next, not by its time-out.
func TestDeadAddressFirst(t *testing.T) {
	n := newInternet(t)
	n.name("half.example", "2600::1", "2600::2", "8.8.4.4")
	n.silent[netip.MustParseAddr("2600::1")] = true
	n.serve("8.8.4.4:443", homeserver, "half.example")
	c := n.client()
	if err := c.Dial(t.Context(), "half.example", 443); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if got := n.dialled[1].Addr().String(); got != "8.8.4.4" {
		t.Errorf("got %s as the second address, want one of the other family", got)
	}
	if got := c.SlotsInUse(); got != 0 {
		t.Errorf("got %d connections open, want 0", got)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	n := newInternet(t)
	n.name("dead.example", "8.8.4.4")
	n.silent[netip.MustParseAddr("8.8.4.4")] = true
	ctx, cancel := context.WithCancel(t.Context())
	c := n.client()
	ended := make(chan error, 1)
	go func() { ended <- c.Dial(ctx, "dead.example", 443) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if got := c.SlotsInUse(); got != 0 {
		t.Errorf("got %d connections open, want 0", got)
	}
	if err := c.Dial(t.Context(), "unknown.example", 443); err == nil {
		t.Error("a name that is not there: got no error")
	}
}

// With permission the neighbours are reached, as tests and private networks need it.
func TestPrivateAddressesAllowed(t *testing.T) {
	n := newInternet(t)
	n.name("lan.example", "192.168.1.5")
	n.serve("192.168.1.5:443", homeserver, "lan.example")
	s := n.settings()
	s.Outbound = config.Outbound{AllowPrivateAddresses: true}
	if err := newClient(t, s).Dial(t.Context(), "lan.example", 443); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

// Without Connect the client connects by TCP.
func TestConnectByTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := outbound.Settings{Outbound: config.Outbound{AllowPrivateAddresses: true}}
	port := l.Addr().(*net.TCPAddr).Port
	if err := newClient(t, s).Dial(t.Context(), "127.0.0.1", uint16(port)); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	if got := outbound.CacheOf(10, 1000); got != 10 {
		t.Errorf("got %d values, want 10", got)
	}
}
