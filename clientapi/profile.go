package clientapi

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// profileFields is a profile, or a part of one.
type profileFields map[string]json.RawMessage

// profile shows all of a user's profile.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuserid
func (a *API) profile(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*profileFields, error) {
	user, err := matrix.ParseUserID(c.Path("userID"))
	if err != nil {
		return nil, err
	}
	var fields profileFields
	if user.Server() == a.rooms.ServerName() {
		fields, err = a.accounts.Profile(ctx, user)
	} else {
		fields, err = a.network.Profile(ctx, user, "")
	}
	if err != nil {
		return nil, err
	}
	return &fields, nil
}

// profileField shows one field of a user's profile.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuseridkeyname
func (a *API) profileField(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*profileFields, error) {
	user, err := matrix.ParseUserID(c.Path("userID"))
	if err != nil {
		return nil, err
	}
	field := c.Path("field")
	if user.Server() != a.rooms.ServerName() {
		fields, err := a.network.Profile(ctx, user, field)
		return (*profileFields)(&fields), err
	}
	value, err := a.accounts.ProfileField(ctx, user, field)
	if err != nil {
		return nil, err
	}
	return &profileFields{field: value}, nil
}

// setProfileField sets one field of the caller's profile.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname
func (a *API) setProfileField(ctx context.Context, c *httpapi.Call, in *profileFields) (*httpapi.None, error) {
	field := c.Path("field")
	if err := mayChangeProfile(c, field); err != nil {
		return nil, err
	}
	value, found := (*in)[field]
	if !found {
		return nil, matrix.Errorf(matrix.MissingParam, "the body has no %q", field)
	}
	changed, err := a.accounts.SetProfileField(ctx, c.User, field, value)
	if err == nil && changed {
		a.showProfile(ctx, c.User, field)
	}
	return nil, err
}

// deleteProfileField removes one field of the caller's profile.
// https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3profileuseridkeyname
func (a *API) deleteProfileField(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.None, error) {
	field := c.Path("field")
	if err := mayChangeProfile(c, field); err != nil {
		return nil, err
	}
	changed, err := a.accounts.DeleteProfileField(ctx, c.User, field)
	if err == nil && changed {
		a.showProfile(ctx, c.User, field)
	}
	return nil, err
}

// mayChangeProfile refuses changes of others' profiles, and those that guests cannot make.
// https://spec.matrix.org/v1.19/client-server-api/#guest-access
func mayChangeProfile(c *httpapi.Call, field string) error {
	if err := own(c); err != nil {
		return err
	}
	if c.Guest && field != accounts.DisplayName {
		return matrix.Errorf(matrix.GuestAccessForbidden, "guests can change their display name only")
	}
	return nil
}

// showProfile carries a changed field into the user's rooms, if rooms show it. The profile has changed already, and to
// set the same again would change nothing: so this goes on when the client has gone, and what fails is the operator's.
// https://spec.matrix.org/v1.19/client-server-api/#events-on-change-of-profile-information
func (a *API) showProfile(ctx context.Context, user matrix.UserID, field string) {
	if field != accounts.DisplayName && field != accounts.AvatarURL {
		return
	}
	if err := a.rooms.ProfileChanged(context.WithoutCancel(ctx), user); err != nil {
		a.log.Warn("a changed profile did not reach all rooms", "user", user, "error", err)
	}
}
