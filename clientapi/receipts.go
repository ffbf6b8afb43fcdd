package clientapi

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// receiptRequest keeps the thread raw: absent and empty are two things, and the second is an error.
type receiptRequest struct {
	ThreadID json.RawMessage `json:"thread_id"`
}

// receipt says how far the caller has read.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
func (a *API) receipt(ctx context.Context, c *httpapi.Call, in *receiptRequest) (*httpapi.None, error) {
	v, err := a.member(ctx, c)
	if err != nil {
		return nil, err
	}
	id, err := matrix.ParseEventID(c.Path("eventID"))
	if err != nil {
		return nil, err
	}
	thread, err := in.thread()
	if err != nil {
		return nil, err
	}
	if thread != "" {
		if err := a.inThread(ctx, v.Room, id, thread); err != nil {
			return nil, err
		}
	}
	return nil, a.markRead(ctx, v, mark{c.Path("receiptType"), id, thread})
}

// thread reads the thread; empty for none.
func (in *receiptRequest) thread() (string, error) {
	if in.ThreadID == nil {
		return "", nil
	}
	var thread string
	if err := json.Unmarshal(in.ThreadID, &thread); err != nil || thread == "" {
		return "", matrix.Errorf(matrix.InvalidParam, "\"thread_id\" must be a text that is not empty")
	}
	return thread, nil
}

type readMarkersRequest struct {
	FullyRead   string `json:"m.fully_read"`
	Read        string `json:"m.read"`
	ReadPrivate string `json:"m.read.private"`
}

// readMarkers says how far the caller has read, in several ways at once.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidread_markers
func (a *API) readMarkers(ctx context.Context, c *httpapi.Call, in *readMarkersRequest) (*httpapi.None, error) {
	v, err := a.member(ctx, c)
	if err != nil {
		return nil, err
	}
	var marks []mark
	for _, m := range []struct{ typ, event string }{
		{roomserver.ReceiptRead, in.Read},
		{roomserver.ReceiptReadPrivate, in.ReadPrivate},
		{accounts.FullyRead, in.FullyRead},
	} {
		if m.event == "" {
			continue
		}
		id, err := matrix.ParseEventID(m.event)
		if err != nil {
			return nil, err
		}
		marks = append(marks, mark{typ: m.typ, event: id})
	}
	for _, m := range marks {
		if err := a.markRead(ctx, v, m); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// member opens the room of the path for a caller who is in it.
func (a *API) member(ctx context.Context, c *httpapi.Call) (*view.Viewer, error) {
	v, err := a.viewer(ctx, c)
	if err == nil {
		err = mustBeJoined(v)
	}
	return v, err
}

// mark is a receipt or the fully-read marker.
type mark struct {
	typ    string
	event  matrix.EventID
	thread string // empty: none
}

// markRead stores a mark.
func (a *API) markRead(ctx context.Context, v *view.Viewer, m mark) (err error) {
	switch {
	case m.typ != accounts.FullyRead:
		err = a.rooms.SetReceipt(ctx, v.By, roomserver.SetReceipt{Room: v.Room.ID, Type: m.typ, Event: m.event, Thread: m.thread})
	case m.thread != "":
		err = matrix.Errorf(matrix.InvalidParam, "%s has no \"thread_id\"", m.typ)
	default:
		err = a.setFullyRead(ctx, v, m.event)
	}
	if err == nil {
		a.ephemeral.Active(v.By.User)
	}
	return err
}

// setFullyRead moves the fully-read marker forward. As with receipts, one that would move backward stays, which is no
// error. https://spec.matrix.org/v1.19/client-server-api/#fully-read-markers
func (a *API) setFullyRead(ctx context.Context, v *view.Viewer, id matrix.EventID) error {
	before, err := a.fullyRead(ctx, v)
	if err != nil {
		return err
	}
	found, err := rooms.EventsByID(ctx, a.db, v.Room, []matrix.EventID{id, before})
	if err != nil {
		return err
	}
	if len(found) == 0 || found[0].ID != id {
		return noEvent(id)
	}
	if len(found) == 2 && found[0].Order.Compare(found[1].Order) <= 0 {
		return nil
	}
	return a.accounts.SetFullyRead(ctx, v.By.User, v.Room.ID, id)
}

// fullyRead returns where the marker stands; empty if there is none.
func (a *API) fullyRead(ctx context.Context, v *view.Viewer) (matrix.EventID, error) {
	content, err := a.accounts.AccountData(ctx, v.By.User, v.Room.ID, accounts.FullyRead)
	if matrix.CodeOf(err) == matrix.NotFound {
		return "", nil
	}
	id, _ := canonical.String(canonical.Get(content, "event_id"))
	return matrix.EventID(id), err
}

// mainThread is everything that is in no thread.
const mainThread = "main"

// maxRelations is how many relations are followed from an event to find its thread.
const maxRelations = 3

// inThread refuses a thread that an event has nothing to do with. The root of a thread is in it and in the main one.
// https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts
func (a *API) inThread(ctx context.Context, room rooms.Room, id matrix.EventID, thread string) error {
	if string(id) == thread {
		return nil
	}
	found, err := a.threadOf(ctx, room, id)
	if err == nil && found != thread {
		err = matrix.Errorf(matrix.InvalidParam, "%s is not in the thread %q", id, thread)
	}
	return err
}

// threadOf returns the root of the thread of an event: that which it names, or that of the event it relates to.
func (a *API) threadOf(ctx context.Context, room rooms.Room, id matrix.EventID) (string, error) {
	for step := range maxRelations {
		e, _, err := rooms.EventByID(ctx, a.db, room, id)
		if err != nil {
			return "", err
		}
		if e == nil {
			if step == 0 {
				return "", noEvent(id)
			}
			break
		}
		parent, _ := canonical.String(canonical.Get(e.Content, "m.relates_to", "event_id"))
		if kind, _ := canonical.String(canonical.Get(e.Content, "m.relates_to", "rel_type")); kind == "m.thread" {
			return parent, nil
		}
		if parent == "" {
			break
		}
		id = matrix.EventID(parent)
	}
	return mainThread, nil
}
