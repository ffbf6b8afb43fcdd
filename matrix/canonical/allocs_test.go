//go:build !race

// The race detector makes sync.Pool forget at random.

package canonical_test

import (
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix/canonical"
)

func TestAppendDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 2*len(message))
	spaced := []byte(strings.ReplaceAll(message, ":", " : "))
	for name, src := range map[string][]byte{"unsorted": []byte(message), "sorted": sortedMessage(t), "spaced": spaced} {
		if n := testing.AllocsPerRun(200, func() { _, _ = canonical.Append(dst, src, strict) }); n > 0.5 {
			t.Errorf("%s: got %v allocations, want none", name, n)
		}
	}
}
