package access

import (
	"fmt"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

func TestACLsAreBounded(t *testing.T) {
	var l ACLs
	for i := range maxACLs + 10 {
		l.Permits(int64(i), []byte(`{"allow":["*"]}`), "a.org")
	}
	for i := range maxACLVerdicts + 10 {
		if !l.Permits(1, []byte(`{"allow":["*"]}`), matrix.ServerName(fmt.Sprint("s", i, ".org"))) {
			t.Fatal("a server was denied")
		}
	}
	if len(l.known) > maxACLs || len(l.known[1].of) > maxACLVerdicts {
		t.Errorf("got %d ACLs and %d verdicts, want no more than %d and %d", len(l.known), len(l.known[1].of), maxACLs, maxACLVerdicts)
	}
	if l.Permits(5000, []byte(`{"allow":["*"],"deny":["a.*"]}`), "a.org") || l.Permits(5000, nil, "a.org") {
		t.Error("a server that is denied was permitted")
	}
}
