package receive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of fetching members.
const (
	maxFetchedRooms = 4                // at once for the first time; others wait for their turn
	maxFetchedAgain = 2                // and of those of which it has failed before
	maxMemberTries  = 4                // servers that are asked in one go
	membersTimeout  = 10 * time.Minute // one go
	firstRetry      = time.Second      // doubled with each go that fails
	lastRetry       = 10 * time.Minute
	lookForPartials = time.Minute // though nobody tells of one
	maxTriesOutside = 10          // for a room that our users were put out of: others may refuse to tell of it, by right
	maxOutside      = 50          // of these users are looked at
)

// completer is a call of Run. Rooms of which the members could not be had do not keep waiting those that come: who makes many
// of them, and lets each request for their members run out of time, holds up only those that failed like them.
type completer struct {
	receiver     *Receiver
	first, again chan struct{} // hold one for each room that is worked for

	mu      sync.Mutex
	running map[int64]bool // room numbers
}

func (s *Receiver) newCompleter() *completer {
	return &completer{
		receiver: s, running: make(map[int64]bool),
		first: make(chan struct{}, maxFetchedRooms), again: make(chan struct{}, maxFetchedAgain),
	}
}

// start notes that a room is worked on. It says whether it was not before.
func (c *completer) start(room int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[room] {
		return false
	}
	c.running[room] = true
	return true
}

// complete tries to make a room whole until that is done.
func (c *completer) complete(ctx context.Context, roomNum int64) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, roomNum)
	}()
	pause := firstRetry
	for try := 0; ; try++ {
		err := c.tryOnce(ctx, roomNum, try)
		if err == nil || ctx.Err() != nil {
			return
		}
		c.receiver.log.WarnContext(ctx, "the members of a room cannot be had yet", "room", roomNum, "tries", try+1, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRetry)
	}
}

func (c *completer) tryOnce(ctx context.Context, roomNum int64, try int) (err error) {
	slots := c.first
	if try > 0 {
		slots = c.again
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-slots }()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r) // one room must not keep others partial
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, membersTimeout)
	defer cancel()
	return c.receiver.CompletePartial(ctx, roomNum, try)
}

// ErrNoMembers says that none of the servers that were asked has told the members of a room.
var ErrNoMembers = errors.New("receive: no server has told the members")

// CompletePartial makes a partial room whole, if servers that are asked for its members tell them. Of many servers, each
// try asks others. A room that is whole is left as it is; one that all users of this server have left is given up, if they
// were put out of it after some tries. What has been stored need not be fetched again when it is called again.
func (s *Receiver) CompletePartial(ctx context.Context, roomNum int64, try int) error {
	join, found, err := rooms.PartialOf(ctx, s.db, roomNum)
	if err != nil || !found {
		return err
	}
	known, err := rooms.ByNumbers(ctx, s.db, []int64{roomNum})
	if err != nil {
		return fmt.Errorf("find room %d: %w", roomNum, err)
	}
	room := known[roomNum]
	present, err := rooms.JoinedOf(ctx, s.db, roomNum, s.name, 1)
	if err != nil {
		return fmt.Errorf("find the members of %s: %w", room.ID, err)
	}
	if len(present) == 0 && join.Members == 0 {
		putOut, err := s.putOut(ctx, room)
		if err != nil {
			return err
		}
		if !putOut || try >= maxTriesOutside {
			return s.owners.GiveUp(ctx, room)
		}
	}
	if join.Members == 0 {
		if err := s.fetchMembers(ctx, room, join, try); err != nil {
			return err
		}
	}
	return s.owners.MakeWhole(ctx, room)
}

// putOut says whether somebody elsewhere has put users of this server out of a room. While its members are unknown, that may
// have been who was not allowed to.
func (s *Receiver) putOut(ctx context.Context, room rooms.Room) (bool, error) {
	users, err := rooms.UsersOf(ctx, s.db, room.Num, s.name, maxOutside)
	if err != nil {
		return false, fmt.Errorf("find the members of %s: %w", room.ID, err)
	}
	var nums []int64
	for _, user := range users {
		m, found, err := rooms.MembershipOf(ctx, s.db, room.Num, user)
		if err != nil {
			return false, fmt.Errorf("find the membership of %s in %s: %w", user, room.ID, err)
		}
		if found {
			nums = append(nums, m.EventNum)
		}
	}
	moves, err := s.owners.Events(ctx, room, nums)
	return slices.ContainsFunc(moves, func(ev *rooms.Event) bool { return !s.owners.IsLocal(ev.Sender) }), err
}

// askedForMembers are the servers that are asked in one go: the one through which we came, and some of the others.
func askedForMembers(servers []matrix.ServerName, try int) []matrix.ServerName {
	if len(servers) <= maxMemberTries {
		return servers
	}
	asked := slices.Clone(servers[:1])
	others := servers[1:]
	for i := range maxMemberTries - 1 {
		asked = append(asked, others[(try*(maxMemberTries-1)+i)%len(others)])
	}
	return asked
}
