package peer

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

func bodyOf(r io.Reader) *httpapi.Body { return &httpapi.Body{Reader: r, Length: -1} }

// Large bodies of unknown senders take so much memory together, and no more; small ones come through all the same.
func TestUnprovenBodiesAreBounded(t *testing.T) {
	var u unproven
	const others = maxUnproven - 4<<20
	u.held.Store(others)
	large := strings.Repeat("x", 1<<20)
	var releases []func()
	for {
		content, release, err := u.read(bodyOf(strings.NewReader(large)))
		releases = append(releases, release)
		if err != nil {
			if matrix.CodeOf(err) != matrix.LimitExceeded {
				t.Fatalf("got %v, want %s", err, matrix.LimitExceeded)
			}
			break
		}
		if len(content) != len(large) || len(releases) > 4 {
			t.Fatalf("got %d bytes of body %d, want four whole", len(content), len(releases))
		}
	}
	small := strings.Repeat("y", maxAhead)
	content, release, err := u.read(bodyOf(iotest.OneByteReader(strings.NewReader(small))))
	if err != nil || string(content) != small {
		t.Errorf("a small body: got %d bytes, %v, want it read", len(content), err)
	}
	for _, release := range append(releases, release) {
		release()
	}
	broken := errors.New("broken off")
	_, release, err = u.read(bodyOf(io.MultiReader(strings.NewReader(large), iotest.ErrReader(broken))))
	if release(); !errors.Is(err, broken) {
		t.Errorf("a body that is broken off: got %v, want %v", err, broken)
	}
	if left := u.held.Load(); left != others {
		t.Errorf("%d bytes are counted when all is done, want the %d of others", left, others)
	}
}
