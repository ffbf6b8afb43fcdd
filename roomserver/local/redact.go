package local

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/owner"
)

// A RedactEvent asks for the content of an event to be removed.
type RedactEvent struct {
	Room   matrix.RoomID
	Event  matrix.EventID
	Reason string
	Txn    Txn
}

// Redact redacts an event: one's own, or with the power to redact any.
// https://spec.matrix.org/v1.19/client-server-api/#redactions
func (s *Users) Redact(ctx context.Context, by matrix.Requester, in RedactEvent) (matrix.EventID, error) {
	content := map[string]any{}
	if in.Reason != "" {
		content["reason"] = in.Reason
	}
	raw, err := canonical.Marshal(content)
	if err != nil {
		return "", err
	}
	return s.once(ctx, by, in.Txn, func(ctx context.Context, txn owner.SentAs) (matrix.EventID, error) {
		return s.addOne(ctx, in.Room, func(ctx context.Context, st *owner.Step) (owner.Draft, error) {
			if err := st.MustBeJoined(ctx, by.User); err != nil {
				return owner.Draft{}, err
			}
			if err := mayRedact(ctx, st, by.User, in.Event); err != nil {
				return owner.Draft{}, err
			}
			return owner.Draft{Type: event.TypeRedaction, Sender: by.User, Content: raw, Redacts: in.Event, Txn: txn}, nil
		})
	})
}

// mayRedact is stricter than the rules of the room, by which any user of a server may redact the events
// of all of its users.
func mayRedact(ctx context.Context, st *owner.Step, user matrix.UserID, id matrix.EventID) error {
	target, err := st.EventByID(ctx, id)
	switch {
	case err != nil:
		return err
	case target == nil && st.Levels().User(user) >= st.Levels().Redact():
		return nil // others may have it, or it may come yet
	case target == nil:
		return matrix.Errorf(matrix.NotFound, "there is no event %s in %s", id, st.Room().ID)
	case target.Sender != user && st.Levels().User(user) < st.Levels().Redact():
		return matrix.Errorf(matrix.Forbidden, "%s may not redact events of %s", user, target.Sender)
	}
	return nil
}
