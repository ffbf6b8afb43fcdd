package roomserver

// ErrNoMembers is what CompletePartial returns if no server tells the members.
var ErrNoMembers = errNoMembers

// SetMemberChunk has members stored so many at a time.
func SetMemberChunk(s *Server, n int) { s.memberChunk = n }
