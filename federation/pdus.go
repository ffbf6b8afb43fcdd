package federation

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// eye opens the room of a request to the server that makes it. Who is not in it, is denied by its ACL, or asks for a room
// that is not known, is refused alike but for the words of the ACL, which members may know.
func (a *API) eye(ctx context.Context, c *call) (*view.ServerViewer, error) {
	id, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return a.eyeOn(ctx, c, id)
}

func (a *API) eyeOn(ctx context.Context, c *call, id matrix.RoomID) (*view.ServerViewer, error) {
	v, err := view.OpenServer(ctx, a.rooms, a.db, view.ServerIn{Server: c.Origin, Room: id})
	if err != nil {
		return nil, err
	}
	return v, a.checkACL(ctx, c.Origin, id)
}

// find returns an event of the room that a request is about. Events of other rooms are not found, like those that are
// nowhere, and those that broke the rules.
func (a *API) find(ctx context.Context, v *view.ServerViewer, id string) (*rooms.Event, error) {
	e, found, err := rooms.EventByID(ctx, a.db, v.Room, matrix.EventID(id))
	if err != nil {
		return nil, err
	}
	if !found || e.Kind == rooms.Rejected {
		return nil, notFound(id)
	}
	return e, nil
}

func notFound(event string) error {
	return matrix.Errorf(matrix.NotFound, "there is no event %q", event)
}

// An eventsAnswer is an object written piece by piece: with large rooms it is too large to be held a second time.
type eventsAnswer struct {
	pieces [][]byte
	at     int // how much of the first piece was read
}

// text adds a piece of JSON as it stands.
func (s *eventsAnswer) text(t string) *eventsAnswer {
	s.pieces = append(s.pieces, []byte(t))
	return s
}

// list adds an array of events.
func (s *eventsAnswer) list(pdus [][]byte) *eventsAnswer {
	s.text("[")
	for i, pdu := range pdus {
		if i > 0 {
			s.text(",")
		}
		s.pieces = append(s.pieces, pdu)
	}
	return s.text("]")
}

// Read implements io.Reader.
func (s *eventsAnswer) Read(p []byte) (n int, err error) {
	for n < len(p) && len(s.pieces) > 0 {
		copied := copy(p[n:], s.pieces[0][s.at:])
		n += copied
		s.at += copied
		if s.at == len(s.pieces[0]) {
			s.pieces, s.at = s.pieces[1:], 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// answer is what the handler returns.
func (s *eventsAnswer) answer() *httpapi.Answer {
	return &httpapi.Answer{Header: http.Header{"Content-Type": {"application/json"}}, Stream: s}
}

// transaction is an answer in the form of a transaction.
func (a *API) transaction(pdus [][]byte) *httpapi.Answer {
	head := canonical.AppendString([]byte(`{"origin":`), string(a.name))
	head = strconv.AppendInt(append(head, `,"origin_server_ts":`...), a.now().UnixMilli(), 10)
	return new(eventsAnswer).text(string(head) + `,"pdus":`).list(pdus).text("}").answer()
}

// shown returns events as a server may have them, without those that it may not.
func shown(ctx context.Context, v *view.ServerViewer, events []*rooms.Event) ([][]byte, error) {
	pdus := make([][]byte, 0, len(events))
	for _, e := range events {
		pdu, ok, err := v.PDU(ctx, e)
		if err != nil {
			return nil, err
		}
		if ok {
			pdus = append(pdus, pdu)
		}
	}
	return pdus, nil
}
