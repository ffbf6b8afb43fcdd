package ephemeral

import (
	"container/list"
	"encoding/json"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// The presence states of the specification.
// https://spec.matrix.org/v1.19/client-server-api/#presence
const (
	Online      = "online"
	Unavailable = "unavailable"
	Offline     = "offline"
)

// Times after which a user's state changes by itself.
const (
	idleAfter    = 5 * time.Minute  // online without activity: unavailable
	offlineAfter = 30 * time.Second // no sync in flight or lately: offline
	remoteAfter  = 30 * time.Minute // no word of another server's user: offline; servers repeat themselves before
	activeWithin = time.Minute      // what counts as currently active
	forgetAfter  = 24 * time.Hour   // an offline user's last words
	tellEvery    = 250 * time.Millisecond
)

// MaxStatusBytes is the longest status message kept.
const MaxStatusBytes = 1024

// Presence is what others may know of a user at one moment.
type Presence struct {
	User            matrix.UserID
	State           string // Online, Unavailable or Offline
	Status          string // the user's own words, may be empty
	LastActiveAgo   time.Duration
	CurrentlyActive bool
	Known           bool // false: never seen in this run, so LastActiveAgo means nothing
}

// person is the state of one user.
type person struct {
	user       matrix.UserID
	state      string
	status     string
	lastActive time.Time
	lastSync   time.Time
	syncs      int           // in flight on this node
	remote     bool          // of another server, which alone says when the state changes
	active     bool          // as last told: currently active
	changed    int64         // the counter at the latest change
	place      *list.Element // in Server.latest
}

// presenceMessage is what the nodes tell each other.
type presenceMessage struct {
	Boot         string        `json:"boot"`
	User         matrix.UserID `json:"user"`
	State        string        `json:"state"`
	Status       string        `json:"status,omitempty"`
	LastActiveMS int64         `json:"last_active_ms"`
	Remote       bool          `json:"remote,omitempty"`
}

// SetPresence is the user's own word about itself. Setting Online counts as activity, and so does the first word of all:
// others take somebody who was never active for long gone, whatever the state says.
// The error is M_INVALID_PARAM for an unknown state, M_TOO_LARGE for a status
// over MaxStatusBytes.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3presenceuseridstatus
func (s *Server) SetPresence(user matrix.UserID, state, status string) error {
	if !validState(state) {
		return matrix.Errorf(matrix.InvalidParam, "presence must be online, unavailable or offline, not %q", state)
	}
	if len(status) > MaxStatusBytes {
		return matrix.Errorf(matrix.TooLarge, "status_msg is longer than %d bytes", MaxStatusBytes)
	}
	now := s.settings.Now()
	s.mu.Lock()
	p := s.person(user)
	p.lastSync = now // a client that speaks is there, even between two syncs
	if state == Online || p.lastActive.IsZero() {
		p.lastActive = now
	}
	s.become(user, p, state, status)
	message := s.describe(user, p)
	s.mu.Unlock()
	s.publish(presenceTopic, message)
	return nil
}

// Syncing notes that a sync of user began, with its set_presence: Online lifts an
// offline user, Unavailable also an online one, Offline leaves everything as it is.
// done must be called when the sync ends.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync
func (s *Server) Syncing(user matrix.UserID, setPresence string) (done func()) {
	if setPresence == Offline {
		return func() {}
	}
	now := s.settings.Now()
	s.mu.Lock()
	p := s.person(user)
	p.syncs++
	p.lastSync = now
	lift := p.state == Offline || (setPresence == Unavailable && p.state == Online)
	var message presenceMessage
	if lift {
		if setPresence == Online || p.lastActive.IsZero() {
			p.lastActive = now
		}
		s.become(user, p, setPresence, p.status)
		message = s.describe(user, p)
	}
	s.mu.Unlock()
	if lift {
		s.publish(presenceTopic, message)
	}
	return func() { s.synced(user) }
}

func (s *Server) synced(user matrix.UserID) {
	now := s.settings.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.presence[user]; p != nil {
		p.syncs--
		p.lastSync = now
	}
}

// Active notes that user did something: sent, read, typed. It makes an idle user online.
func (s *Server) Active(user matrix.UserID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.presence[user]
	if p == nil || p.state == Offline {
		return // it never synced: a bot that only sends is not present
	}
	p.lastActive = s.settings.Now()
	if p.state == Unavailable || !p.active {
		s.become(user, p, Online, p.status)
	}
}

// Presence returns what is known of user now.
func (s *Server) Presence(user matrix.UserID) Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.presence[user]
	if p == nil {
		return Presence{User: user, State: Offline}
	}
	return s.view(user, p)
}

// PresenceSince returns the users whose presence changed after counter and whom
// the reader may see, in no order. From 0 it returns all who are not offline.
func (s *Server) PresenceSince(counter int64, visible func(matrix.UserID) bool) []Presence {
	var candidates []*person
	s.mu.Lock()
	for e := s.latest.Front(); e != nil; e = e.Next() {
		p := e.Value.(*person)
		if p.changed <= counter {
			break
		}
		if counter > 0 || p.state != Offline {
			candidates = append(candidates, p)
		}
	}
	s.mu.Unlock()
	if len(candidates) == 0 {
		return nil
	}
	// visible may be slow, so it runs without the lock.
	seen := candidates[:0]
	for _, c := range candidates {
		if visible(c.user) {
			seen = append(seen, c)
		}
	}
	out := make([]Presence, 0, len(seen))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range seen {
		out = append(out, s.view(c.user, c))
	}
	return out
}

// person returns the state of user, made if it is new.
func (s *Server) person(user matrix.UserID) *person {
	p := s.presence[user]
	if p == nil {
		p = &person{user: user, state: Offline}
		p.place = s.latest.PushBack(p)
		s.presence[user] = p
	}
	return p
}

// become changes what others see of user, if anything differs.
func (s *Server) become(user matrix.UserID, p *person, state, status string) {
	active := state == Online && s.settings.Now().Sub(p.lastActive) < activeWithin
	if p.changed > 0 && p.state == state && p.status == status && p.active == active {
		return
	}
	p.state, p.status, p.active = state, status, active
	s.counter++
	p.changed = s.counter
	s.latest.MoveToFront(p.place)
	if len(s.moved) == 0 {
		time.AfterFunc(tellEvery, s.wake)
	}
	s.moved[user] = struct{}{}
}

// tellMoved tells listeners of the presence changes that have gathered. Waiting
// a moment keeps a thousand clients that come online together from waking each
// other a million times.
func (s *Server) tellMoved() {
	if len(s.moved) == 0 {
		return
	}
	users := make([]matrix.UserID, 0, len(s.moved))
	for user := range s.moved {
		users = append(users, user)
	}
	clear(s.moved)
	s.tell(Change{Users: users})
}

// agePresence lets users go idle and offline. It looks at everybody, so it does
// so only every maxPause, however often Run is woken.
func (s *Server) agePresence(now time.Time) {
	if now.Sub(s.aged) < maxPause {
		return
	}
	s.aged = now
	for user, p := range s.presence {
		silent := p.silentAt(now)
		idle := now.Sub(p.lastActive)
		switch {
		case p.state == Offline && silent && now.Sub(p.lastSync) >= forgetAfter:
			delete(s.presence, user)
			s.latest.Remove(p.place)
		case p.state == Offline:
		case silent:
			s.become(user, p, Offline, p.status)
		case p.state == Online && idle >= idleAfter && !p.remote:
			s.become(user, p, Unavailable, p.status)
		case p.active && idle >= activeWithin:
			s.become(user, p, p.state, p.status)
		}
	}
}

// silentAt says whether nothing was heard of a user for so long that it counts as gone.
func (p *person) silentAt(now time.Time) bool {
	if p.remote {
		return now.Sub(p.lastSync) >= remoteAfter
	}
	return p.syncs == 0 && now.Sub(p.lastSync) >= offlineAfter
}

func (s *Server) view(user matrix.UserID, p *person) Presence {
	ago := max(s.settings.Now().Sub(p.lastActive), 0)
	return Presence{
		User: user, State: p.state, Status: p.status, Known: !p.lastActive.IsZero(),
		LastActiveAgo: ago, CurrentlyActive: p.state == Online && ago < activeWithin,
	}
}

func (s *Server) describe(user matrix.UserID, p *person) presenceMessage {
	m := presenceMessage{Boot: s.settings.Boot, User: user, State: p.state, Status: p.status, Remote: p.remote}
	if !p.lastActive.IsZero() {
		m.LastActiveMS = p.lastActive.UnixMilli()
	}
	return m
}

// hearPresence applies what another node says.
func (s *Server) hearPresence(data []byte) {
	var m presenceMessage
	if err := json.Unmarshal(data, &m); err != nil || !validState(m.State) {
		s.settings.Log.Warn("presence message not understood", "error", err)
		return
	}
	if m.Boot == s.settings.Boot {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.person(m.User)
	p.lastSync, p.remote = s.settings.Now(), m.Remote
	if m.LastActiveMS > 0 {
		p.lastActive = time.UnixMilli(m.LastActiveMS)
	}
	s.become(m.User, p, m.State, m.Status)
}

func validState(state string) bool {
	return state == Online || state == Unavailable || state == Offline
}
