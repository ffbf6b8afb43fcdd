package remote

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// State is the state before an event, and the auth chain of that state.
type State struct {
	State, AuthChain []*event.Event
	Refused          Refused
}

// StateIDs is the same by IDs. It is the answer of state_ids, too.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid
type StateIDs struct {
	State     []matrix.EventID `json:"pdu_ids"`
	AuthChain []matrix.EventID `json:"auth_chain_ids"`
}

// State asks for the state before an event.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid
func (c *Client) State(ctx context.Context, from matrix.ServerName, at Place) (State, error) {
	d := c.newDoor(from, at.Room)
	defer d.release()
	state, chain := d.list(maxStateEvents), d.list(maxStateEvents)
	err := c.readStream(ctx, stateCall(from, "state", at), func(s *stream) error {
		return s.object(map[string]func() error{
			"pdus":       func() error { return state.read(s) },
			"auth_chain": func() error { return chain.read(s) },
		})
	})
	if err != nil {
		return State{}, err
	}
	if err := d.close(ctx); err != nil {
		return State{}, err
	}
	return State{State: state.events, AuthChain: chain.events, Refused: d.refused}, nil
}

func stateCall(from matrix.ServerName, endpoint string, at Place) outbound.Call {
	return outbound.Call{
		To: from, MaxBytes: maxStateBytes, Timeout: stateTimeout,
		URI: outbound.Path("_matrix", "federation", "v1", endpoint, string(at.Room.ID)) +
			"?event_id=" + url.QueryEscape(string(at.Event)),
	}
}

// StateIDs asks for the state before an event, by IDs.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid
func (c *Client) StateIDs(ctx context.Context, from matrix.ServerName, at Place) (StateIDs, error) {
	call := stateCall(from, "state_ids", at)
	call.MaxBytes = maxStateIDsBytes
	var ids StateIDs
	err := c.readStream(ctx, call, func(s *stream) error {
		return s.object(map[string]func() error{
			"pdu_ids":        func() error { return s.array(maxNameBytes*2, addID(&ids.State)) },
			"auth_chain_ids": func() error { return s.array(maxNameBytes*2, addID(&ids.AuthChain)) },
		})
	})
	if err != nil {
		return StateIDs{}, err
	}
	return ids, nil
}

// addID reads the event IDs of a list. One that is none makes the whole list worthless: a state with a hole is not the
// state.
func addID(to *[]matrix.EventID) func(raw []byte) error {
	return func(raw []byte) error {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return bad("an event ID: %w", err)
		}
		id, err := matrix.ParseEventID(text)
		if err != nil {
			return bad("%w", err)
		}
		if len(*to) == maxStateEvents {
			return bad("more than %d events", maxStateEvents)
		}
		*to = append(*to, id)
		return nil
	}
}
