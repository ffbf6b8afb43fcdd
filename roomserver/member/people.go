// Package member makes member events: what they say of a user, whom of the users of this server others may invite, and which
// of them vouches for a join to a restricted room.
package member

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/users"
)

// Profiles tells how users of this server show themselves. accounts implements it.
type Profiles interface {
	// Profile returns a JSON value for each field of a profile; NotFound for a user who does not exist.
	Profile(ctx context.Context, user matrix.UserID) (map[string]json.RawMessage, error)
}

// People are the users of this server, as rooms see them.
type People struct {
	rooms    *committed.Rooms
	db       *storage.DB
	profiles Profiles
}

// NewPeople makes People.
func NewPeople(rooms *committed.Rooms, db *storage.DB, profiles Profiles) *People {
	return &People{rooms: rooms, db: db, profiles: profiles}
}

// Profile is what of a user's profile goes into member events.
type Profile map[string]any

var profileFields = [...]string{"displayname", "avatar_url"}

// Profile reads the profile of a user of this server. Others have none here.
func (p *People) Profile(ctx context.Context, user matrix.UserID) (Profile, error) {
	if !p.rooms.IsLocal(user) {
		return nil, nil
	}
	fields, err := p.profiles.Profile(ctx, user)
	if err != nil && matrix.CodeOf(err) != matrix.NotFound {
		return nil, fmt.Errorf("read the profile of %s: %w", user, err)
	}
	shown := make(Profile, 2)
	for _, field := range profileFields {
		var text string
		if json.Unmarshal(fields[field], &text) == nil && text != "" {
			shown[field] = text
		}
	}
	return shown, nil
}

// IsShownBy says whether a member event shows the profile already.
func (p Profile) IsShownBy(ev *rooms.Event) bool {
	for _, field := range profileFields {
		text, _ := p[field].(string)
		if ev.Text(field) != text {
			return false
		}
	}
	return true
}

// MayBeInvited refuses invites for who is not here, or wants none.
func (p *People) MayBeInvited(ctx context.Context, user matrix.UserID) error {
	if _, err := p.profiles.Profile(ctx, user); err != nil {
		return err
	}
	account, found, err := users.ByID(ctx, p.db, user)
	if err != nil {
		return fmt.Errorf("find %s: %w", user, err)
	}
	if found && account.DeactivatedMS != 0 {
		return matrix.Errorf(matrix.Forbidden, "%s is no longer there", user)
	}
	return p.WantsInvites(ctx, user)
}

// WantsInvites refuses invites for a user of this server who wants none.
// https://spec.matrix.org/v1.19/client-server-api/#invite-permission
func (p *People) WantsInvites(ctx context.Context, user matrix.UserID) error {
	content, _, err := users.AccountData(ctx, p.db, user, "", "m.invite_permission_config")
	if err != nil {
		return fmt.Errorf("read the account data of %s: %w", user, err)
	}
	var config struct {
		DefaultAction string `json:"default_action"`
	}
	if json.Unmarshal(content, &config) == nil && config.DefaultAction == "block" {
		return matrix.Errorf(matrix.InviteBlocked, "%s wants no invites", user)
	}
	return nil
}
