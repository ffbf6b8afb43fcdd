// Package remote asks other homeservers, on behalf of this one: one method of Client for each operation of the
// federation API. The types of requests and answers that both sides of federation use stand here, too.
//
// It promises that every event it returns has passed event.Parse for the version of its room and carries valid
// signatures of all who must have signed it, and is of the room that was asked about; what does not is left out of the
// answer, and counted. What is not an event is held to its types and to the grammar of its identifiers, and is
// otherwise what the other server says. Every answer ends at a size and a time. Large ones are read piece by piece, so
// that no more than the events themselves is in memory.
//
// An error is a *outbound.RemoteError if the other server answered with one, ErrBadAnswer if its answer makes no
// sense, outbound.ErrTooLarge if it is too large, a *matrix.Error if we do not talk to that server, and anything else
// if it cannot be reached. Explain turns them into what a client may see.
//
// Whether events are allowed by the rules of their room, which server to ask, and when to ask it again is left to the
// caller.
//
// https://spec.matrix.org/v1.19/server-server-api/
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// Verifier checks signatures with the keys of other servers.
type Verifier interface {
	// VerifyEvents checks the signatures of all servers that must have signed each event. The answer has for each
	// event nil, a *matrix.Error if a signature is wrong, or another error if the keys cannot be had now.
	VerifyEvents(ctx context.Context, events []*event.Event) []error
	// VerifyObject checks the signature that a server made on a JSON object at a time in milliseconds; 0: at any.
	VerifyObject(ctx context.Context, obj []byte, by matrix.ServerName, atMS int64) error
}

// Settings are what a client works with.
type Settings struct {
	HTTP     *outbound.Client
	Verifier Verifier
	Log      *slog.Logger
}

// Client asks other servers. All methods may be called from any goroutine.
type Client struct {
	http     *outbound.Client
	verifier Verifier
	log      *slog.Logger
	held     atomic.Int64 // bytes of the events of all answers that are being read
}

// New makes a client.
func New(s Settings) *Client {
	return &Client{http: s.HTTP, verifier: s.Verifier, log: s.Log}
}

// Room is a room as requests about it need to know it.
type Room struct {
	ID      matrix.RoomID
	Version *event.Version
}

// Place is an event of a room.
type Place struct {
	Room  Room
	Event matrix.EventID
}

// ErrBadAnswer says that the answer of another server is not what it must be.
var ErrBadAnswer = errors.New("the answer makes no sense")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBadAnswer, fmt.Errorf(format, args...))
}

// answer makes a request and decodes the small answer.
func (c *Client) answer(ctx context.Context, call outbound.Call, into any) error {
	text, err := c.http.Bytes(ctx, call)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return badOf(call.To, err)
	}
	return nil
}

func badOf(server matrix.ServerName, err error) error {
	return fmt.Errorf("%s: %w: %w", server, ErrBadAnswer, err)
}

// Tolerant is a list of which elements of the wrong type are left out when it is decoded.
type Tolerant[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (l *Tolerant[T]) UnmarshalJSON(text []byte) error {
	*l = Tolerant[T]{}
	n := 0
	return streamOf(text).array(len(text), func(raw []byte) error {
		if n++; n > maxElements {
			return bad("a list of more than %d elements", maxElements)
		}
		var element T
		if json.Unmarshal(raw, &element) == nil {
			*l = append(*l, element)
		}
		return nil
	})
}
