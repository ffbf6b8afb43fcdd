package network

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
)

// Settings is what a Network is made of. All are required.
type Settings struct {
	Rooms  *roomserver.Server
	Remote *remote.Client
	Key    signing.Key // of this server
	Now    func() time.Time
	Log    *slog.Logger
}

// Network is what clients want of rooms, users and directories that may be of other servers: the clientapi.Network of
// the server. What needs no other server is done here at once.
//
// Of another server's template only what remote.Template.Proto lets through becomes a part of an event of ours, and what
// another server answers is looked through before anything of it is kept.
type Network struct {
	rooms  *roomserver.Server
	remote *remote.Client
	key    signing.Key
	now    func() time.Time
	log    *slog.Logger
	turns  turns
	toldAt time.Time // of TellLeaves alone
}

// New returns a Network.
func New(s Settings) *Network {
	return &Network{rooms: s.Rooms, remote: s.Remote, key: s.Key, now: s.Now, log: s.Log}
}

const (
	// maxAsked servers are asked to let a user in, one after the other.
	maxAsked = 8
	// visitTimeout is for a visit with all that is asked for it. It goes on when who wanted it has gone away: the other
	// server may have let us in already.
	visitTimeout = 5 * time.Minute
	// rejectTimeout is how long the servers of a room are asked to take note of a leave.
	rejectTimeout = 20 * time.Second
)

// A visit is a user of ours coming to a room of which this server may know nothing, or leaving it.
type visit struct {
	by         matrix.Requester
	room       matrix.RoomID
	membership event.Membership
	content    []byte
	servers    []matrix.ServerName // to ask
	in         roomserver.JoinRoom
	standing   roomserver.Standing // of one who joins
}

// begin makes the visit: whom to ask, in what order, and what the event is to say.
func (n *Network) begin(ctx context.Context, by matrix.Requester, p plan) (visit, error) {
	v := visit{by: by, room: p.in.Room, membership: p.membership, in: p.in, standing: p.standing}
	for _, s := range candidates(p) {
		if s != "" && s != n.rooms.ServerName() && len(v.servers) < maxAsked && !slices.Contains(v.servers, s) {
			v.servers = append(v.servers, s)
		}
	}
	if len(v.servers) == 0 {
		return v, matrix.Errorf(matrix.NotFound, "no server is known that is in %s: name one with \"via\"", p.in.Room)
	}
	var err error
	v.content, err = n.rooms.MemberContent(ctx, by.User, p.membership, p.in)
	return v, err
}

// plan is a visit to be.
type plan struct {
	in         roomserver.JoinRoom
	membership event.Membership
	standing   roomserver.Standing
	via        []matrix.ServerName // that the client names
}

// candidates are the servers to ask: those that the client names, and that of who has invited the user. If it names none,
// or this server is in the room, also all that it thinks are there. Into a partial room, one that this server came in
// through lets others in, too; nobody else is believed, but for who may vouch for them by the rules of the room.
func candidates(p plan) []matrix.ServerName {
	host := p.standing.Host
	if host != "" && !p.standing.Restricted {
		return []matrix.ServerName{host}
	}
	servers := append([]matrix.ServerName{host}, p.via...)
	if p.standing.Inviter != "" {
		servers = append(servers, p.standing.Inviter.Server())
	}
	if len(p.via) > 0 && !p.standing.Resident {
		return servers
	}
	if s, named := p.in.Room.Server(); named {
		servers = append(servers, s)
	}
	return append(servers, p.standing.Servers...)
}

// each asks one server after the other, until one does it or one says what the others would say, too. The error is the
// one that tells most.
func (v visit) each(ctx context.Context, ask func(context.Context, matrix.ServerName) error) error {
	var told error
	for _, s := range v.servers {
		err := ask(ctx, s)
		if err == nil {
			return nil
		}
		err = remote.Explain(err)
		if weight(err) > weight(told) {
			told = err
		}
		if isFinal(err) || ctx.Err() != nil {
			return err
		}
	}
	return told
}

// isFinal says whether other servers of a room would say the same. That the user may not enter is not final: who says so
// may not have heard of what lets the user in, or may have nobody who could vouch for it.
func isFinal(err error) bool {
	switch matrix.CodeOf(err) {
	case matrix.IncompatibleRoomVersion, matrix.UnsupportedRoomVersion, matrix.GuestAccessForbidden:
		return true
	}
	return false
}

// weight is how much an error tells the user, compared to others: nothing where there is none.
func weight(err error) int {
	switch {
	case err == nil:
		return 0
	case matrix.CodeOf(err) == matrix.Unknown:
		return 1
	case matrix.CodeOf(err) == matrix.Forbidden:
		return 3
	}
	return 2
}

// event makes our event of another server's template.
func (n *Network) event(v visit, t remote.Template) (*event.Event, error) {
	version, proto, err := t.Proto(v.content, n.now().UnixMilli())
	if err != nil {
		return nil, err
	}
	return event.Build(version, proto, n.rooms.ServerName(), n.key)
}

func (v visit) at(s matrix.ServerName) remote.Visit {
	return remote.Visit{Server: s, Room: v.room, User: v.by.User}
}

// detached is a context that goes on when the request ends, but not for ever.
func detached(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}

// turns lets one visit to a room follow another, so that who comes second finds the room that the first has brought.
type turns struct {
	mu    sync.Mutex
	rooms map[matrix.RoomID]*turn
}

type turn struct {
	taken   chan struct{} // holds one
	waiting int
}

// maxTurns bounds who waits for one room.
const maxTurns = 100

// take waits for the turn of a room. It ends with done.
func (t *turns) take(ctx context.Context, room matrix.RoomID) (done func(), err error) {
	t.mu.Lock()
	if t.rooms == nil {
		t.rooms = make(map[matrix.RoomID]*turn)
	}
	r := t.rooms[room]
	if r == nil {
		r = &turn{taken: make(chan struct{}, 1)}
		t.rooms[room] = r
	}
	if r.waiting >= maxTurns {
		t.mu.Unlock()
		return nil, matrix.Errorf(matrix.LimitExceeded, "too many are on their way to %s", room).With("retry_after_ms", 1000)
	}
	r.waiting++
	t.mu.Unlock()
	release := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if r.waiting--; r.waiting == 0 {
			delete(t.rooms, room)
		}
	}
	select {
	case r.taken <- struct{}{}:
		return func() { <-r.taken; release() }, nil
	case <-ctx.Done():
		release()
		return nil, ctx.Err()
	}
}
