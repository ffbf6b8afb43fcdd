package event

import (
	"path"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

func TestServerACL(t *testing.T) {
	for _, c := range []struct {
		name, content     string
		permitted, denied []matrix.ServerName
	}{
		{"everybody", `{"allow":["*"]}`, []matrix.ServerName{"a.org", "a.org:8448", "1.2.3.4", "[::1]:80"}, nil},
		{"nobody, as nothing is allowed", `{"deny":[]}`, nil, []matrix.ServerName{"a.org"}},
		{"one denied", `{"allow":["*"],"deny":["evil.com"]}`,
			[]matrix.ServerName{"not-evil.com", "evil.com.org", "x.evil.com"}, []matrix.ServerName{"evil.com", "evil.com:1234", "EVIL.com"}},
		{"a domain denied", `{"allow":["*"],"deny":["*.evil.com"]}`, []matrix.ServerName{"evil.com"}, []matrix.ServerName{"x.evil.com", "x.y.evil.com:1"}},
		{"no addresses", `{"allow":["*"],"allow_ip_literals":false}`, []matrix.ServerName{"a.org"}, []matrix.ServerName{"1.2.3.4", "1.2.3.4:80", "[::1]", "[2001:db8::1]:8448"}},
		{"not a boolean", `{"allow":["*"],"allow_ip_literals":"false"}`, []matrix.ServerName{"1.2.3.4"}, nil},
		{"denial wins", `{"allow":["evil.com"],"deny":["evil.???"]}`, nil, []matrix.ServerName{"evil.com", "other.org"}},
		{"a question mark is one character", `{"allow":["?.org"]}`, []matrix.ServerName{"a.org"}, []matrix.ServerName{".org", "aa.org"}},
		{"upper case in the list", `{"allow":["A.ORG"]}`, []matrix.ServerName{"a.org", "A.Org"}, nil},
		{"wrong types", `{"allow":"*","deny":{"a":1}}`, nil, []matrix.ServerName{"a.org"}},
		{"wrong entries", `{"allow":[1,null,["*"],"a.org"],"deny":[{}]}`, []matrix.ServerName{"a.org"}, []matrix.ServerName{"b.org"}},
		{"brackets are no class", `{"allow":["[ab].org"]}`, nil, []matrix.ServerName{"a.org"}},
	} {
		acl := ParseServerACL([]byte(c.content))
		for _, s := range c.permitted {
			if !acl.Permits(s) {
				t.Errorf("%s: %s is denied, want it permitted", c.name, s)
			}
		}
		for _, s := range c.denied {
			if acl.Permits(s) {
				t.Errorf("%s: %s is permitted, want it denied", c.name, s)
			}
		}
	}
	if !(*ServerACL)(nil).Permits("a.org") {
		t.Error("without an ACL: a server is denied, want it permitted")
	}
	longest := matrix.ServerName(strings.Repeat("a", maxACLHostBytes))
	if !ParseServerACL([]byte(`{"allow":["*a"]}`)).Permits(longest) {
		t.Error("the longest name: denied, want it permitted")
	}
	if ParseServerACL([]byte(`{"allow":["*"]}`)).Permits(longest + "a") {
		t.Error("a name that is too long: permitted, want it denied")
	}
}

// The largest list there can be, of globs on which a matcher that tries one way after the other does not end.
func TestServerACLHostile_CVE_2023_45129(t *testing.T) {
	host := matrix.ServerName(strings.Repeat("a", maxACLHostBytes))
	acl := ParseServerACL([]byte(`{"allow":["` + strings.Repeat(strings.Repeat("*a", 100)+`*b","`, 300) + strings.Repeat("*", 2000) + `"]}`))
	if !acl.Permits(host) {
		t.Error("the last entry permits all, but the server is denied")
	}
	if acl = ParseServerACL([]byte(`{"allow":["*"],"deny":["` + strings.Repeat(strings.Repeat("*a", 100)+`*b","`, 300) + `"]}`)); !acl.Permits(host) {
		t.Error("no entry denies the server, but it is denied")
	}
}

func FuzzServerACL(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, glob, host string) {
		if len(host) > maxACLHostBytes || len(glob)-strings.Count(glob, "*") > maxACLHostBytes {
			return
		}
		for _, text := range []string{glob, host} {
			for i := range len(text) {
				if text[i] >= 0x80 || strings.IndexByte(`[]\/`, text[i]) >= 0 {
					return // means something to path.Match
				}
			}
		}
		want, err := path.Match(glob, host)
		if got := positionsIn(host).matches(glob); err == nil && got != want {
			t.Errorf("%q on %q: got %v, want %v", glob, host, got, want)
		}
	})
}

// The largest list there can be, of globs on which a matcher that tries one way after the other takes for ever.
func BenchmarkServerACLHostile(b *testing.B) {
	content := `{"allow":["` + strings.Repeat(`*a*a*a*a*a*a*a*a*a*a*a*a*b","`, 2000) + `a"]}`
	acl := ParseServerACL([]byte(content))
	host := matrix.ServerName(strings.Repeat("a", 255))
	for b.Loop() {
		if acl.Permits(host) {
			b.Fatal("permitted")
		}
	}
}
