package roomserver

import "sync"
type inbox struct { mu sync.Mutex }
