package federation

// Waiting is the number of rooms for which something waits that other servers have sent.
func (a *API) Waiting() int {
	a.inbox.mu.Lock()
	defer a.inbox.mu.Unlock()
	return len(a.inbox.backlog.lines)
}
