package member

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/owner"
)

// A Change is a member event to be.
type Change struct {
	Target     matrix.UserID
	Membership event.Membership
	Reason     string
	Direct     bool          // of an invite: to a direct chat
	Via        matrix.UserID // of a restricted join: who vouches
	Profile    Profile       // of a target who comes or is called
	Extra      map[string]json.RawMessage
	Vouched    bool // of a join to a partial room: by another server
}

// Content makes the content of the event.
func (c Change) Content() ([]byte, error) {
	content := make(map[string]any, len(c.Extra)+4)
	for name, value := range c.Extra {
		content[name] = value
	}
	content["membership"] = c.Membership
	maps.Copy(content, c.Profile)
	if c.Reason != "" {
		content["reason"] = c.Reason
	}
	if c.Via != "" {
		content[Authoriser] = c.Via
	}
	if c.Direct {
		content["is_direct"] = true
	}
	return canonical.Marshal(content)
}

// Set adds the member event of a change.
func Set(ctx context.Context, st *owner.Step, by matrix.UserID, c Change) error {
	content, err := c.Content()
	if err != nil {
		return err
	}
	target := string(c.Target)
	_, err = st.Add(ctx, owner.Draft{Type: event.TypeMember, StateKey: &target, Sender: by, Content: content, Vouched: c.Vouched})
	return err
}

// Authoriser names who vouches for a join to a restricted room.
const Authoriser = "join_authorised_via_users_server"
