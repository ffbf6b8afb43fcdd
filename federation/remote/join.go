package remote

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/outbound"
)

// JoinRequest is a join to send to a resident server.
type JoinRequest struct {
	Join *event.Event
	// OmitMembers says that the members need not be in the answer.
	OmitMembers bool
}

// JoinAnswer is what a resident server gives to a join.
type JoinAnswer struct {
	// Join is the event as it now stands: ours, with the signature of the server that vouches for it if there is one.
	Join *event.Event
	// State is the state before the join, at most one event for each place in it, the create event among them. If
	// MembersOmitted is true, only some members are in it, and Servers has the servers of all.
	State          []*event.Event
	AuthChain      []*event.Event
	MembersOmitted bool
	Servers        []matrix.ServerName
	Refused        Refused
}

// SendJoin sends a join of ours to a resident server and returns what the room was before it. The answer is complete in
// that it has a create event of the room's version; whether the state follows from the auth chain by the rules of the
// room is not looked at.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
func (c *Client) SendJoin(ctx context.Context, to matrix.ServerName, in JoinRequest) (JoinAnswer, error) {
	j := c.newJoinReader(to, in)
	defer j.door.release()
	call := membershipCall(to, "send_join", in.Join)
	call.MaxBytes, call.Timeout = maxStateBytes, stateTimeout
	err := c.readStream(ctx, in.newestForm(call), j.read)
	if lacksEndpoint(err) {
		err = c.readStream(ctx, olderForm(call), func(s *stream) error { return pair(s, j.read) })
	}
	if err != nil {
		return JoinAnswer{}, err
	}
	if err := j.door.close(ctx); err != nil {
		return JoinAnswer{}, err
	}
	answer, err := j.answer(ctx)
	if err != nil {
		return JoinAnswer{}, badOf(to, err)
	}
	return answer, nil
}

func (in JoinRequest) newestForm(call outbound.Call) outbound.Call {
	if in.OmitMembers {
		call.URI += "?omit_members=true"
	}
	return call
}

// membershipCall sends a membership event to an endpoint of the second version of the API.
func membershipCall(to matrix.ServerName, endpoint string, e *event.Event) outbound.Call {
	return outbound.Call{
		To: to, Method: http.MethodPut, Content: e.JSON, MaxBytes: maxSmallBytes, Timeout: handshakeTimeout,
		URI: outbound.Path("_matrix", "federation", "v2", endpoint, string(e.RoomID), string(e.ID)),
	}
}

// olderForm is the same call to the first version of the API, which answers with [200, answer].
func olderForm(call outbound.Call) outbound.Call {
	call.URI = "/_matrix/federation/v1" + call.URI[len("/_matrix/federation/v2"):]
	return call
}

// pair reads [200, answer].
func pair(s *stream, read func(*stream) error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if err := s.skip(); err != nil {
		return err
	}
	if err := s.expect(','); err != nil {
		return err
	}
	if err := read(s); err != nil {
		return err
	}
	return s.expect(']')
}

// joinReader reads the answer to a join.
type joinReader struct {
	client         *Client
	request        JoinRequest
	door           *door
	state, chain   *list
	theirs         []byte // the join as the resident server returns it
	membersOmitted bool
	servers        []matrix.ServerName
}

func (c *Client) newJoinReader(to matrix.ServerName, in JoinRequest) *joinReader {
	d := c.newDoor(to, Room{ID: in.Join.RoomID, Version: in.Join.Version})
	return &joinReader{client: c, request: in, door: d, state: d.list(maxStateEvents), chain: d.list(maxStateEvents)}
}

func (j *joinReader) read(s *stream) error {
	return s.object(map[string]func() error{
		"state":           func() error { return j.state.read(s) },
		"auth_chain":      func() error { return j.chain.read(s) },
		"members_omitted": func() error { return s.decode(maxNameBytes, &j.membersOmitted) },
		"servers_in_room": func() error { return s.array(maxNameBytes*2, j.addServer) },
		"event": func() error {
			raw, err := s.value(maxElementBytes)
			j.theirs = append(j.theirs, raw...)
			return err
		},
	})
}

// addServer takes a name, and leaves out what is none.
func (j *joinReader) addServer(raw []byte) error {
	if len(j.servers) == maxServersInRoom {
		return bad("more than %d servers", maxServersInRoom)
	}
	var name string
	if json.Unmarshal(raw, &name) != nil {
		return j.door.wasted()
	}
	server, err := matrix.ParseServerName(name)
	if err != nil {
		return j.door.wasted()
	}
	j.servers = append(j.servers, server)
	return nil
}

// answer checks what was read, behind the check of the signatures.
func (j *joinReader) answer(ctx context.Context) (a JoinAnswer, err error) {
	if j.membersOmitted && !j.request.OmitMembers {
		return a, bad("members are omitted, for which nobody asked")
	}
	if j.membersOmitted && len(j.servers) == 0 {
		return a, bad("members are omitted, and the servers in the room, too")
	}
	a = JoinAnswer{AuthChain: j.chain.events, MembersOmitted: j.membersOmitted, Servers: j.servers}
	if a.State, err = j.door.stateOf(j.state); err != nil {
		return a, err
	}
	a.Refused = j.door.refused
	a.Join, err = j.countersigned(ctx)
	return a, err
}

// stateOf returns the events of a list that is the state of the room. What is no state event is left out.
func (d *door) stateOf(l *list) ([]*event.Event, error) {
	places := make(map[event.Key]bool, len(l.events))
	state := make([]*event.Event, 0, len(l.events))
	for _, e := range l.events {
		if !e.IsState() {
			d.refused.Foreign++
			continue
		}
		if places[e.StateID()] {
			return nil, bad("two events of type %s for the same place in the state", e.Type)
		}
		places[e.StateID()] = true
		if e.StateID() == (event.Key{Type: event.TypeCreate}) && createdVersion(e) != d.room.Version.ID {
			return nil, bad("the room is of version %q, it was said to be of %q", createdVersion(e), d.room.Version.ID)
		}
		state = append(state, e)
	}
	if !places[event.Key{Type: event.TypeCreate}] {
		return nil, bad("no create event in the state")
	}
	return state, nil
}

// createdVersion is the room version that a create event sets.
func createdVersion(create *event.Event) matrix.RoomVersion {
	raw := canonical.Get(create.Content, "room_version")
	if raw == nil {
		return firstVersion
	}
	text, _ := canonical.String(raw)
	return matrix.RoomVersion(text)
}

// countersigned is our join with the signature of the server that vouches for it, without which it is worth nothing.
// https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms
func (j *joinReader) countersigned(ctx context.Context) (*event.Event, error) {
	join := j.request.Join
	via, needed := join.JoinAuthoriser()
	if !needed || via.Server() == join.Sender.Server() {
		return join, nil
	}
	return j.client.countersigned(ctx, countersignature{of: join, by: via.Server(), in: j.theirs})
}

// countersignature is the signature of another server on an event of ours, to be found in what that server returned.
type countersignature struct {
	of *event.Event
	by matrix.ServerName
	in []byte
}

// countersigned returns the event with the signature. Nothing else is taken over: not a byte of the event is another's.
func (c *Client) countersigned(ctx context.Context, s countersignature) (*event.Event, error) {
	theirs, err := canonical.JSON(s.in, canonical.Lenient)
	if err != nil {
		return nil, bad("the event that was returned: %w", err)
	}
	signed, err := takeSignatures(s.of, theirs, s.by)
	if err != nil {
		return nil, err
	}
	var atMS int64
	if signed.Version.EnforceKeyValidity {
		atMS = signed.OriginServerTS
	}
	if err := c.verifier.VerifyObject(ctx, signed.RedactedJSON(), s.by, atMS); err != nil {
		return nil, bad("the signature of %s: %w", s.by, err)
	}
	return signed, nil
}
