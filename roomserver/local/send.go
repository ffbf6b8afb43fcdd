package local

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/owner"
)

// A SendEvent is an event to be sent that is not state.
type SendEvent struct {
	Room    matrix.RoomID
	Type    string
	Content []byte // JSON object
	Txn     Txn
	TS      int64 // origin_server_ts in ms, for application services; 0: now
}

// Send sends a message event. A repeat with the same transaction ID is answered with the first event.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid
func (s *Users) Send(ctx context.Context, by matrix.Requester, in SendEvent) (matrix.EventID, error) {
	d := owner.Draft{Type: in.Type, Sender: by.User, Content: in.Content, TS: in.TS}
	if in.Type == event.TypeRedaction {
		target, err := redactsOf(in.Content)
		if err != nil {
			return "", err
		}
		d.Redacts = target
	}
	return s.once(ctx, by, in.Txn, func(ctx context.Context, txn owner.SentAs) (matrix.EventID, error) {
		d.Txn = txn
		return s.addOne(ctx, in.Room, func(ctx context.Context, st *owner.Step) (owner.Draft, error) {
			if err := st.MustBeJoined(ctx, by.User); err != nil {
				return d, err
			}
			if d.Redacts != "" {
				return d, mayRedact(ctx, st, by.User, d.Redacts)
			}
			return d, nil
		})
	})
}

// redactsOf reads the target of a redaction that was sent like any other event.
func redactsOf(content []byte) (matrix.EventID, error) {
	content, err := canonical.JSON(content, canonical.Strict)
	if err != nil {
		return "", err
	}
	text, ok := canonical.String(canonical.Get(content, "redacts"))
	if !ok {
		return "", matrix.Errorf(matrix.BadJSON, "a redaction must name the event it redacts, as \"redacts\"")
	}
	return matrix.ParseEventID(text)
}

// A SendState is a state event to be sent.
type SendState struct {
	Room     matrix.RoomID
	Type     string
	StateKey string
	Content  []byte // JSON object
	TS       int64  // as in SendEvent
}

// SendState changes a piece of the room's state. Where it already is as asked, by the same sender, the
// event that made it so is the answer.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey
func (s *Users) SendState(ctx context.Context, by matrix.Requester, in SendState) (matrix.EventID, error) {
	content, err := canonical.JSON(in.Content, canonical.Strict)
	if err != nil {
		return "", err
	}
	key := event.Key{Type: in.Type, StateKey: in.StateKey}
	d := owner.Draft{Type: in.Type, StateKey: &in.StateKey, Sender: by.User, Content: content, TS: in.TS}
	return s.addOne(ctx, in.Room, func(ctx context.Context, st *owner.Step) (owner.Draft, error) {
		found, err := st.Lookup(ctx, key)
		if err != nil {
			return d, err
		}
		now := found[0]
		if d.Content, err = withoutAuthoriser(content, now); err != nil {
			return d, err
		}
		if err := s.checkState(ctx, st, by, stateChange{key, d.Content}); err != nil {
			return d, err
		}
		if now != nil && now.Sender == by.User && string(now.Content) == string(d.Content) {
			return d, alreadySo{now.ID}
		}
		return d, nil
	})
}

// alreadySo ends a task that need not add its event: there is one like it.
type alreadySo struct{ id matrix.EventID }

func (alreadySo) Error() string { return "local: there is such an event already" }

// addOne adds the event that decide drafts, and returns its ID when it is committed.
func (s *Users) addOne(ctx context.Context, room matrix.RoomID, decide func(context.Context, *owner.Step) (owner.Draft, error)) (matrix.EventID, error) {
	var id matrix.EventID
	err := s.owners.Do(ctx, room, func(ctx context.Context, st *owner.Step) error {
		d, err := decide(ctx, st)
		var already alreadySo
		if errors.As(err, &already) {
			id = already.id
			return nil
		}
		if err != nil {
			return err
		}
		ev, err := st.Add(ctx, d)
		if err == nil {
			id = ev.ID
		}
		return err
	})
	if err != nil {
		return "", notThere(room, err)
	}
	return id, nil
}

// notThere answers for a room that this server does not know as for one that the user is not in: who
// is outside learns nothing of rooms.
func notThere(room matrix.RoomID, err error) error {
	if committed.IsNotHere(err) {
		return matrix.Errorf(matrix.Forbidden, "you are not in %s", room)
	}
	return err
}
