package outbox

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// Limits of what is said of the moment, to one destination at a time.
const (
	maxTyping   = 50
	maxPresence = 500
)

// A typist is a user in a room.
type typist struct {
	room matrix.RoomID
	user matrix.UserID
}

// Typing tells the servers of a room that one of our users types, or does so no more.
// https://spec.matrix.org/v1.19/server-server-api/#typing-notifications
func (o *Outbox) Typing(ctx context.Context, room matrix.RoomID, user matrix.UserID, typing bool) error {
	servers, err := o.settings.Rooms.Servers(ctx, room)
	if err != nil {
		return fmt.Errorf("servers of %s: %w", room, err)
	}
	servers = o.permitted(servers)
	o.mu.Lock()
	o.state.types(servers, typist{room, user}, typing, o.settings.Now())
	o.mu.Unlock()
	signal(o.changed)
	return nil
}

// Presence is what other servers are told of one of our users.
// https://spec.matrix.org/v1.19/server-server-api/#presence
type Presence struct {
	User            matrix.UserID
	State           string
	Status          string
	LastActive      time.Time
	CurrentlyActive bool
}

// Presence tells the servers of those who share a room with one of our users of its presence: not at once, and with
// what is to be said of others.
func (o *Outbox) Presence(ctx context.Context, p Presence) error {
	servers, err := o.settings.Rooms.Sharing(ctx, p.User)
	if err != nil {
		return fmt.Errorf("servers that share a room with %s: %w", p.User, err)
	}
	servers = o.permitted(servers)
	o.mu.Lock()
	o.state.appear(servers, &p, o.settings.Now())
	o.mu.Unlock()
	signal(o.changed)
	return nil
}

// types notes that a user types.
func (s *state) types(servers []matrix.ServerName, who typist, typing bool, now time.Time) {
	for _, server := range servers {
		d := s.destination(server)
		if d.failures == 0 && len(d.typing) < maxTyping {
			if d.typing == nil {
				d.typing = map[typist]bool{}
			}
			d.typing[who] = typing
		}
		s.arrange(d, now)
	}
}

// appear notes the presence of a user.
func (s *state) appear(servers []matrix.ServerName, p *Presence, now time.Time) {
	for _, server := range servers {
		d := s.destination(server)
		if d.failures == 0 && len(d.presence) < maxPresence {
			if d.presence == nil {
				d.presence = map[matrix.UserID]*Presence{}
				d.presenceAt = now.Add(presenceDelay)
			}
			d.presence[p.User] = p
		}
		s.arrange(d, now)
	}
}

// speak returns the EDUs of what is to be said of the moment.
func (d *destination) speak(now time.Time) [][]byte {
	var edus [][]byte
	for _, who := range slices.SortedFunc(maps.Keys(d.typing), typist.compare) {
		edus = append(edus, typingEDU(who, d.typing[who]))
	}
	d.typing = nil
	if len(d.presence) > 0 && !d.presenceAt.After(now) {
		edus = append(edus, presenceEDU(d.presence, now))
		d.presence = nil
	}
	return edus
}

func (t typist) compare(u typist) int {
	return cmp.Or(cmp.Compare(t.room, u.room), cmp.Compare(t.user, u.user))
}

func typingEDU(who typist, typing bool) []byte {
	b := canonical.AppendString([]byte(`{"content":{"room_id":`), string(who.room))
	b = fmt.Appendf(b, `,"typing":%t,"user_id":`, typing)
	b = canonical.AppendString(b, string(who.user))
	return append(b, `},"edu_type":"m.typing"}`...)
}

func presenceEDU(all map[matrix.UserID]*Presence, now time.Time) []byte {
	b := []byte(`{"content":{"push":[`)
	for i, user := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			b = append(b, ',')
		}
		p := all[user]
		ago := max(now.Sub(p.LastActive), 0).Milliseconds()
		b = fmt.Appendf(b, `{"currently_active":%t,"last_active_ago":%d,"presence":`, p.CurrentlyActive, ago)
		b = canonical.AppendString(b, p.State)
		if p.Status != "" {
			b = canonical.AppendString(append(b, `,"status_msg":`...), p.Status)
		}
		b = canonical.AppendString(append(b, `,"user_id":`...), string(p.User))
		b = append(b, '}')
	}
	return append(b, `]},"edu_type":"m.presence"}`...)
}
