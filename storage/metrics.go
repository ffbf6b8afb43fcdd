package storage

import "time"

// Metrics receive what the committer did. A nil function is not called; none may block.
type Metrics struct {
	Group  func(items int, took time.Duration) // a group was committed
	Failed func()                              // an attempt to store a group did not succeed
}

func (m *Metrics) group(items int, took time.Duration) {
	if m.Group != nil {
		m.Group(items, took)
	}
}

func (m *Metrics) failed() {
	if m.Failed != nil {
		m.Failed()
	}
}
