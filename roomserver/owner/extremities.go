package owner

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// dummyBeyond is beyond how many forward extremities an event is sent that only joins them. Each of our own events takes the
// place of up to event.MaxPrevEvents of them; where nobody here speaks, this one does.
const dummyBeyond = 10

// TypeDummy is an event that joins forward extremities and says nothing. Servers have one name for it, and show it to
// no client.
const TypeDummy = "org.matrix.dummy_event"

// JoinExtremities keeps them few, if a user of this server may speak in the room without being asked for more.
func (st *Step) JoinExtremities(ctx context.Context) error {
	if len(st.tip.extremities) <= dummyBeyond || st.tip.policy != nil {
		return nil
	}
	if err := st.resolveCurrent(ctx); err != nil {
		return err
	}
	by, err := st.speaker(ctx)
	if err != nil || by == "" {
		return err
	}
	for len(st.tip.extremities) > dummyBeyond {
		before := len(st.tip.extremities)
		_, err := st.Add(ctx, Draft{Type: TypeDummy, Sender: by, Content: []byte(`{}`)})
		if matrix.CodeOf(err) == matrix.Forbidden || len(st.tip.extremities) >= before {
			return nil // by the state of some branch nobody of us may
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// speaker returns a joined user of this server who may send events; empty if there is none.
func (st *Step) speaker(ctx context.Context) (matrix.UserID, error) {
	need := st.tip.levels.ForEvent(TypeDummy, false)
	for _, user := range auth.Creators(st.room.Version, st.tip.create.Plain()) {
		if ok, err := st.maySpeak(ctx, user, need); ok || err != nil {
			return user, err
		}
	}
	users, err := rooms.JoinedOf(ctx, st.owners.db, st.room.Num, st.owners.name, maxSpeakers)
	if err != nil {
		return "", err
	}
	for _, user := range users {
		if ok, err := st.maySpeak(ctx, user, need); ok || err != nil {
			return user, err
		}
	}
	return "", nil
}

// maxSpeakers bounds the users among whom one is looked for who may speak.
const maxSpeakers = 50

func (st *Step) maySpeak(ctx context.Context, user matrix.UserID, need auth.Level) (bool, error) {
	if !st.owners.IsLocal(user) || st.tip.levels.User(user) < need {
		return false, nil
	}
	m, _, err := st.Member(ctx, user)
	return m == event.Join, unlessUnknown(err)
}
