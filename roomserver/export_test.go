package roomserver

import "github.com/myelin-chat/myelin/roomserver/receive"

// ErrNoMembers is what CompletePartial returns if no server tells the members.
var ErrNoMembers = receive.ErrNoMembers

// SetMemberChunk has members stored so many at a time.
func SetMemberChunk(s *Server, n int) { s.MemberChunk = n }

// Waiting is for how many rooms somebody may be waiting.
func Waiting(s *Server) int { return s.Awaited() }
