package storage

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A thousand failures in a second and a half are two lines, which count them all but those of the last half second.
func TestComplaintsAreFew(t *testing.T) {
	var out bytes.Buffer
	c := complaints{log: slog.New(slog.NewTextHandler(&out, nil))}
	start := time.UnixMilli(1_800_000_000_000)
	for i := range 1000 {
		c.error(start.Add(time.Duration(i)*1500*time.Microsecond), "not stored", errors.New("the disk is full"))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "times=1") || !strings.Contains(lines[1], "times=667") {
		t.Errorf("got %q, want two lines, for 1 and for 667 failures", lines)
	}
	out.Reset()
	c.error(start.Add(time.Hour), "not stored", errors.New("the disk is full"))
	if !strings.Contains(out.String(), "times=333") {
		t.Errorf("got %q, want a line for those that were not told of, too", out.String())
	}
}
