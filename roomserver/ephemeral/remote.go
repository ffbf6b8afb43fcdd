package ephemeral

import (
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// maxRemote bounds how many users of other servers are remembered. Beyond it nothing is heard of those that are new.
const maxRemote = 200_000

// A RemotePresence is what another server says of one of its users.
type RemotePresence struct {
	User          matrix.UserID
	State         string        // Online, Unavailable or Offline; else nothing is noted
	Status        string        // cut at MaxStatusBytes
	LastActiveAgo time.Duration // how long ago the user did something; negative counts as now
}

// SetRemotePresence notes what another server says of its user. The caller has checked that the user is of that server,
// and that somebody here may care.
// https://spec.matrix.org/v1.19/server-server-api/#presence
func (s *Server) SetRemotePresence(in RemotePresence) {
	if !validState(in.State) {
		return
	}
	status := in.Status
	if len(status) > MaxStatusBytes {
		status = status[:MaxStatusBytes]
	}
	now := s.settings.Now()
	s.mu.Lock()
	if s.presence[in.User] == nil && len(s.presence) >= maxRemote {
		s.mu.Unlock()
		return
	}
	p := s.person(in.User)
	p.remote, p.lastSync, p.lastActive = true, now, now.Add(-max(0, in.LastActiveAgo))
	s.become(in.User, p, in.State, status)
	message := s.describe(in.User, p)
	s.mu.Unlock()
	s.publish(presenceTopic, message)
}
