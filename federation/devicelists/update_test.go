package devicelists

import (
	"testing"

	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/users"
)

// Whatever users call their devices, what others are told of them can be signed.
func TestContentIsCanonical(t *testing.T) {
	for _, name := range []string{"", "Phone", "\x00\x01\"\\\u2028é", "\xff\xfe", "\ud7ff\U0010ffff"} {
		a := about{users.DeviceChange{User: "@a:us.example", Device: "D\x00\xff\"", StreamID: 1 << 40, DisplayName: &name}, 5}
		got := a.content()
		if want, err := canonical.JSON(got, canonical.Strict); err != nil || string(got) != string(want) {
			t.Errorf("%q: got %s, want %s (%v)", name, got, want, err)
		}
	}
}
