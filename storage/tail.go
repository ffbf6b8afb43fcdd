package storage

import "sync"

// maxTail is the number of news kept in memory: with their values about 10 MB.
const maxTail = 8192

// tail is the end of the log in memory: the news of every position in (last-len, last].
type tail struct {
	mu   sync.RWMutex
	ring [maxTail]News // the news of position p is at p % maxTail
	size int
	last Position
}

// append adds news that follow the last position without a gap.
func (t *tail) append(news []News) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range news {
		t.ring[n.Position%maxTail] = n
	}
	t.last = news[len(news)-1].Position
	t.size = min(t.size+len(news), maxTail)
}

func (t *tail) position() Position {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.last
}

// since returns up to limit news after from. It is not complete if some of them have left the tail already.
func (t *tail) since(from Position, limit int) (news []News, complete bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if from >= t.last {
		return nil, true
	}
	if from < t.last-Position(t.size) {
		return nil, false
	}
	n := min(int(t.last-from), max(limit, 0))
	news = make([]News, n)
	for i := range news {
		news[i] = t.ring[(from+1+Position(i))%maxTail]
	}
	return news, true
}
