package roomserver

import (
	"time"

	"github.com/myelin-chat/myelin/roomserver/receive"
)

// ErrNoMembers is what CompletePartial returns if no server tells the members.
var ErrNoMembers = receive.ErrNoMembers

// SetMemberChunk has members stored so many at a time.
func SetMemberChunk(s *Server, n int) { s.MemberChunk = n }

// SetPolicyPatience has policy servers waited for so long, for all events that came together.
func SetPolicyPatience(s *Server, d time.Duration) { s.PolicyPatience = d }

// Waiting is for how many rooms somebody may be waiting.
func Waiting(s *Server) int {
	ofRooms, _ := s.Awaited()
	return ofRooms
}

// Resolutions is how often states were resolved.
func Resolutions(s *Server) int64 { return s.owners.Resolutions() }
