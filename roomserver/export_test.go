package roomserver

// ErrNoMembers is what CompletePartial returns if no server tells the members.
var ErrNoMembers = errNoMembers

// SetMemberChunk has members stored so many at a time.
func SetMemberChunk(s *Server, n int) { s.memberChunk = n }

// Waiting is for how many rooms somebody may be waiting.
func Waiting(s *Server) int {
	s.partials.mu.Lock()
	defer s.partials.mu.Unlock()
	return len(s.partials.waiting)
}
