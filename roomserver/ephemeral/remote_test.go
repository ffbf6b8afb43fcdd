package ephemeral

import (
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

const carol = matrix.UserID("@carol:other")

func TestRemotePresence(t *testing.T) {
	s, w, c := newWorld(t)
	two := newServer(t, w, c, "two")
	s.SetRemotePresence(RemotePresence{User: carol, State: Online, Status: "here", LastActiveAgo: 10 * time.Second})
	for _, node := range []*Server{s, two} {
		got := node.Presence(carol)
		if got.State != Online || got.Status != "here" || got.LastActiveAgo != 10*time.Second || !got.CurrentlyActive {
			t.Errorf("got %+v, want online, here, active 10s ago", got)
		}
	}
	c.pass(idleAfter+time.Minute, s, two)
	if got := s.Presence(carol); got.State != Online || got.CurrentlyActive {
		t.Errorf("her server has not said that she is idle: got %+v, want online, not active", got)
	}
	c.pass(remoteAfter, s, two)
	for _, node := range []*Server{s, two} {
		if got := node.Presence(carol).State; got != Offline {
			t.Errorf("after a long silence of her server: got %s, want offline", got)
		}
	}
}

func TestRemotePresenceNonsense(t *testing.T) {
	s, _, _ := newWorld(t)
	s.SetRemotePresence(RemotePresence{User: carol, State: "asleep"})
	if got := s.Counter(); got != 0 {
		t.Errorf("an unknown state: got counter %d, want 0", got)
	}
	s.SetRemotePresence(RemotePresence{User: carol, State: Online, Status: strings.Repeat("x", 5000), LastActiveAgo: -time.Hour})
	got := s.Presence(carol)
	if len(got.Status) != MaxStatusBytes || got.LastActiveAgo != 0 {
		t.Errorf("got %d bytes, active %v ago, want %d, 0", len(got.Status), got.LastActiveAgo, MaxStatusBytes)
	}
}
