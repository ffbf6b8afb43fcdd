package ephemeral

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// Bounds on how long one notice counts, whatever a client asks for.
const (
	minTyping = time.Second
	maxTyping = 2 * time.Minute
)

// typists are the users who type in one room. The entry stays when the last of
// them stops, so that readers learn of the empty list; it goes after keepSilent.
type typists struct {
	until   map[matrix.UserID]time.Time
	changed int64     // the counter at the latest change of the set
	silent  time.Time // since when the set is empty
}

// keepSilent is how long a room without typists is remembered: longer than any
// client leaves between two syncs while it believes somebody types.
const keepSilent = 10 * time.Minute

// typingMessage is what the nodes tell each other.
type typingMessage struct {
	Boot    string        `json:"boot"`
	Room    matrix.RoomID `json:"room"`
	User    matrix.UserID `json:"user"`
	UntilMS int64         `json:"until_ms"` // 0: stopped
}

// SetTyping notes that user types in room for the next timeout, or stops if
// timeout is not positive. The caller has checked that user is in room.
// https://spec.matrix.org/v1.19/client-server-api/#typing-notifications
func (s *Server) SetTyping(room matrix.RoomID, user matrix.UserID, timeout time.Duration) {
	var until time.Time
	if timeout > 0 {
		until = s.settings.Now().Add(min(max(timeout, minTyping), maxTyping))
	}
	s.setTyping(room, user, until)
	message := typingMessage{Boot: s.settings.Boot, Room: room, User: user}
	if !until.IsZero() {
		message.UntilMS = until.UnixMilli()
	}
	s.publish(typingTopic, message)
}

// Typing returns who types in room, sorted, and the counter at the latest change
// of that set: 0 if nobody typed there lately.
func (s *Server) Typing(room matrix.RoomID) (users []matrix.UserID, changed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.typing[room]
	if t == nil {
		return nil, 0
	}
	for user := range t.until {
		users = append(users, user)
	}
	slices.Sort(users)
	return users, t.changed
}

// TypingSince returns the rooms whose typists changed after counter.
func (s *Server) TypingSince(counter int64) []matrix.RoomID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if counter >= s.typingLast {
		return nil
	}
	var changed []matrix.RoomID
	for room, t := range s.typing {
		if t.changed > counter {
			changed = append(changed, room)
		}
	}
	return changed
}

// setTyping applies a change; a zero until means that user stops.
func (s *Server) setTyping(room matrix.RoomID, user matrix.UserID, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.typing[room]
	if t == nil {
		if until.IsZero() {
			return
		}
		t = &typists{until: map[matrix.UserID]time.Time{}}
		s.typing[room] = t
	}
	_, typed := t.until[user]
	if until.IsZero() {
		delete(t.until, user)
		t.silent = s.settings.Now()
	} else {
		t.until[user] = until
		s.wake()
	}
	if typed == until.IsZero() { // the set moved; a mere extension is no news
		s.typingMoved(room, t)
	}
}

// typingMoved counts and tells a change of a room's set.
func (s *Server) typingMoved(room matrix.RoomID, t *typists) {
	s.counter++
	t.changed = s.counter
	s.typingLast = s.counter
	s.tell(Change{Room: room})
}

// expireTyping ends what is over at now and returns the time until the next end.
func (s *Server) expireTyping(now time.Time) time.Duration {
	pause := maxPause
	for room, t := range s.typing {
		if len(t.until) == 0 {
			if now.Sub(t.silent) >= keepSilent {
				delete(s.typing, room)
			}
			continue
		}
		ended := false
		for user, until := range t.until {
			if left := until.Sub(now); left > 0 {
				pause = min(pause, left)
				continue
			}
			delete(t.until, user)
			t.silent = now
			ended = true
		}
		if ended {
			s.typingMoved(room, t)
		}
	}
	return pause
}

// hearTyping applies what another node says.
func (s *Server) hearTyping(data []byte) {
	var m typingMessage
	if err := json.Unmarshal(data, &m); err != nil {
		s.settings.Log.Warn("typing message not understood", "error", err)
		return
	}
	if m.Boot == s.settings.Boot {
		return
	}
	var until time.Time
	if m.UntilMS > 0 {
		until = time.UnixMilli(m.UntilMS)
	}
	s.setTyping(m.Room, m.User, until)
}
