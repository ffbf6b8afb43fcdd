package owner

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Admit refuses a server that the room shuts out.
// https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls
func (st *Step) Admit(ctx context.Context, server matrix.ServerName) error {
	found, err := st.Lookup(ctx, event.Key{Type: event.TypeServerACL})
	if err != nil || found[0] == nil {
		return err
	}
	if !event.ParseServerACL(found[0].Content).Permits(server) {
		return matrix.Errorf(matrix.Forbidden, "%s may not take part in %s", server, st.room.ID)
	}
	return nil
}

// Room is the room that the step is of.
func (st *Step) Room() rooms.Room { return st.room }

// Rooms are all rooms, as they are committed.
func (st *Step) Rooms() *committed.Rooms { return st.owners.Rooms }

// NowMS is when the step is done.
func (st *Step) NowMS() int64 { return st.nowMS }

// Levels are the power levels of the current state.
func (st *Step) Levels() *auth.PowerLevels { return st.tip.levels }

// PowerLevels is the event that they stand in; nil if there is none.
func (st *Step) PowerLevels() *rooms.Event { return st.tip.power }

// JoinRules is the event with the join rules of the room; nil if there is none.
func (st *Step) JoinRules() *rooms.Event { return st.tip.joinRules }

// Creators are the users who have created the room.
func (st *Step) Creators() []matrix.UserID {
	return auth.Creators(st.room.Version, st.tip.create.Plain())
}

// IsListed says whether the room is in the directory.
func (st *Step) IsListed() bool { return st.tip.listed }

// Allows says why the current state does not allow an event, an *auth.Rejection, if so.
func (st *Step) Allows(ctx context.Context, ev *event.Event) (why, err error) {
	return st.allowedIn(ctx, ev, st.tip.state)
}

// A Basis is what an event of our own would stand on.
type Basis struct {
	Prev []*rooms.Event // the events that it follows
	Auth []*rooms.Event // its auth events

	known authState
}

// Basis finds what the event of a draft would stand on now.
func (st *Step) Basis(ctx context.Context, d Draft) (Basis, error) {
	known, err := st.authState(ctx, st.tip.state, d)
	if err != nil {
		return Basis{}, err
	}
	b := Basis{Auth: known.selected, known: known}
	for _, ev := range st.follows() {
		b.Prev = append(b.Prev, ev.Event)
	}
	return b, nil
}

// Authorise refuses an event on a basis, as its sender is told.
func (st *Step) Authorise(ev *event.Event, on Basis) error {
	return Forbidden(st.authorise(ev, on.known))
}

// Propose makes the event of a draft, and does not add it: others have to sign it first.
func (st *Step) Propose(ctx context.Context, d Draft) (*event.Event, error) {
	known, err := st.authState(ctx, st.tip.state, d)
	if err != nil {
		return nil, err
	}
	ev, err := st.build(d, st.follows(), known)
	if err != nil {
		return nil, err
	}
	if err := st.authorise(ev, known); err != nil {
		return nil, Forbidden(err)
	}
	return ev, nil
}

// Relay notes that the event that was received last is ours to pass on, as nobody else has it yet, and returns it.
func (st *Step) Relay() *rooms.Event {
	last := st.events[len(st.events)-1].Event
	last.Relayed = true
	return last
}
