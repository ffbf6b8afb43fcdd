package audience

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/federation/outbox"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
)

// HeraldSettings is what a Herald is made of. All are required.
type HeraldSettings struct {
	Ephemeral  *ephemeral.Server
	Outbox     *outbox.Outbox
	ServerName matrix.ServerName
	Now        func() time.Time
	Log        *slog.Logger
}

// Herald tells other servers what is true of users of this one for the moment: who types, and who is there.
type Herald struct {
	HeraldSettings
	moved chan struct{} // capacity 1

	mu    sync.Mutex
	rooms map[matrix.RoomID]struct{} // whose typists changed
	users map[matrix.UserID]struct{} // whose presence changed

	// What was said last, and when; of Run alone.
	typing  map[matrix.RoomID]map[matrix.UserID]time.Time
	present map[matrix.UserID]time.Time // who is not offline
}

const (
	// Others take it that who is not spoken of any more has stopped typing, or has gone.
	repeatTyping   = 30 * time.Second
	repeatPresence = 10 * time.Minute
	repeatCheck    = 5 * time.Second

	longestAgo = 365 * 24 * time.Hour
)

// NewHerald returns a herald, who is silent until Run.
func NewHerald(s HeraldSettings) *Herald {
	return &Herald{
		HeraldSettings: s, moved: make(chan struct{}, 1),
		rooms: map[matrix.RoomID]struct{}{}, users: map[matrix.UserID]struct{}{},
		typing: map[matrix.RoomID]map[matrix.UserID]time.Time{}, present: map[matrix.UserID]time.Time{},
	}
}

// Run tells what changes until ctx ends.
func (h *Herald) Run(ctx context.Context) error {
	defer h.Ephemeral.Listen(h.hear)()
	check := time.NewTicker(repeatCheck)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.moved:
			rooms, users := h.take()
			h.tellTyping(ctx, rooms)
			h.tellPresence(ctx, users)
		case <-check.C:
			h.repeat(ctx)
		}
	}
}

// hear notes a change. It is called with the lock of the ephemeral server held.
func (h *Herald) hear(c ephemeral.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.Room != "" {
		h.rooms[c.Room] = struct{}{}
	}
	for _, user := range c.Users {
		if user.Server() == h.ServerName {
			h.users[user] = struct{}{}
		}
	}
	select {
	case h.moved <- struct{}{}:
	default:
	}
}

func (h *Herald) take() (rooms map[matrix.RoomID]struct{}, users map[matrix.UserID]struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rooms, users = h.rooms, h.users
	h.rooms, h.users = map[matrix.RoomID]struct{}{}, map[matrix.UserID]struct{}{}
	return rooms, users
}

// tellTyping tells who has begun or stopped to type in rooms, or was not spoken of for long.
// https://spec.matrix.org/v1.19/server-server-api/#typing-notifications
func (h *Herald) tellTyping(ctx context.Context, rooms map[matrix.RoomID]struct{}) {
	now := h.Now()
	for room := range rooms {
		told, still := h.typing[room], map[matrix.UserID]time.Time{}
		users, _ := h.Ephemeral.Typing(room)
		for _, user := range users {
			if user.Server() != h.ServerName {
				continue
			}
			still[user] = told[user]
			if now.Sub(told[user]) >= repeatTyping {
				still[user] = now
				h.note(h.Outbox.Typing(ctx, room, user, true))
			}
		}
		for user := range told {
			if _, types := still[user]; !types {
				h.note(h.Outbox.Typing(ctx, room, user, false))
			}
		}
		if h.typing[room] = still; len(still) == 0 {
			delete(h.typing, room)
		}
	}
}

// tellPresence tells how users are there.
// https://spec.matrix.org/v1.19/server-server-api/#presence
func (h *Herald) tellPresence(ctx context.Context, users map[matrix.UserID]struct{}) {
	now := h.Now()
	for user := range users {
		p := h.Ephemeral.Presence(user)
		if h.present[user] = now; p.State == ephemeral.Offline {
			delete(h.present, user)
		}
		h.note(h.Outbox.Presence(ctx, outbox.Presence{
			User: user, State: p.State, Status: p.Status, CurrentlyActive: p.CurrentlyActive,
			LastActive: now.Add(-min(p.LastActiveAgo, longestAgo)),
		}))
	}
}

// repeat says again what is still true.
func (h *Herald) repeat(ctx context.Context) {
	rooms, users := map[matrix.RoomID]struct{}{}, map[matrix.UserID]struct{}{}
	for room := range h.typing {
		rooms[room] = struct{}{}
	}
	now := h.Now()
	for user, told := range h.present {
		if now.Sub(told) >= repeatPresence {
			users[user] = struct{}{}
		}
	}
	h.tellTyping(ctx, rooms)
	h.tellPresence(ctx, users)
}

func (h *Herald) note(err error) {
	if err != nil {
		h.Log.Debug("other servers are not told what is true for the moment", "cause", err)
	}
}
