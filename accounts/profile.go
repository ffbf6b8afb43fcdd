package accounts

import (
	"bytes"
	"context"
	"encoding/json"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/users"
)

// Profile fields that are shown in rooms too.
const (
	DisplayName = "displayname"
	AvatarURL   = "avatar_url"
)

const (
	maxProfileKeyBytes = 255
	maxDisplayNameLen  = 256 // in characters
	maxAvatarURLBytes  = 1000
)

// Profile returns the profile of a user of this server: a JSON value for each field. It may be empty.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuserid
func (a *Accounts) Profile(ctx context.Context, user matrix.UserID) (map[string]json.RawMessage, error) {
	if err := a.local(user); err != nil {
		return nil, err
	}
	fields, err := users.Profile(ctx, a.db, user)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		if _, err := a.User(ctx, user); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// ProfileField returns the JSON value of one field.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuseridkeyname
func (a *Accounts) ProfileField(ctx context.Context, user matrix.UserID, field string) (json.RawMessage, error) {
	if err := a.local(user); err != nil {
		return nil, err
	}
	value, found, err := users.ProfileField(ctx, a.db, user, field)
	if err == nil && !found {
		err = matrix.Errorf(matrix.NotFound, "%s has no profile field %q", user, field)
	}
	return value, err
}

// SetProfileField sets a field to a JSON value, and says whether that changed anything. An empty display name or avatar
// removes it, as clients expect. The caller carries a changed DisplayName or AvatarURL into the user's rooms.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname
func (a *Accounts) SetProfileField(ctx context.Context, user matrix.UserID, field string, value json.RawMessage) (changed bool, err error) {
	if err := checkProfileKey(field); err != nil {
		return false, err
	}
	if len(value) > users.MaxProfileBytes {
		return false, matrix.Errorf(matrix.ProfileTooLarge, "a profile has to stay under %d bytes", users.MaxProfileBytes)
	}
	checked, err := canonical.JSON(value, canonical.Lenient)
	if err != nil {
		return false, err
	}
	if err := checkProfileValue(field, checked); err != nil {
		return false, err
	}
	if (field == DisplayName || field == AvatarURL) && string(checked) == `""` {
		checked = nil
	}
	return a.putProfileField(ctx, users.SetProfileField{User: user, Field: field, Value: checked})
}

// DeleteProfileField removes a field, and says whether it was there.
// https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3profileuseridkeyname
func (a *Accounts) DeleteProfileField(ctx context.Context, user matrix.UserID, field string) (changed bool, err error) {
	if err := checkProfileKey(field); err != nil {
		return false, err
	}
	return a.putProfileField(ctx, users.SetProfileField{User: user, Field: field})
}

// putProfileField writes only what differs, since a change is told to every room of the user.
func (a *Accounts) putProfileField(ctx context.Context, write users.SetProfileField) (changed bool, err error) {
	old, found, err := users.ProfileField(ctx, a.db, write.User, write.Field)
	if err != nil {
		return false, err
	}
	if found == (write.Value != nil) && bytes.Equal(old, write.Value) {
		return false, nil
	}
	_, err = a.db.Commit(ctx, write)
	return err == nil, err
}

// displayNameValue is a display name as the value of its field.
func displayNameValue(name string) (json.RawMessage, error) {
	value, err := canonical.Marshal(name)
	if err == nil {
		err = checkProfileValue(DisplayName, value)
	}
	return value, err
}

// checkProfileKey holds the name of a field against its grammar.
// https://spec.matrix.org/v1.19/appendices/#common-namespaced-identifier-grammar
func checkProfileKey(field string) error {
	if len(field) > maxProfileKeyBytes {
		return matrix.Errorf(matrix.KeyTooLarge, "the name of a profile field has at most %d bytes", maxProfileKeyBytes)
	}
	if field == "" || field[0] < 'a' || field[0] > 'z' {
		return errProfileKey()
	}
	for i := range len(field) {
		c := field[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return errProfileKey()
		}
	}
	return nil
}

func errProfileKey() error {
	return matrix.Errorf(matrix.InvalidParam, "the name of a profile field begins with a-z and consists of a-z, 0-9 and -_.")
}

// checkProfileValue checks the fields whose form the specification gives.
func checkProfileValue(field string, value []byte) error {
	if field != DisplayName && field != AvatarURL && field != "m.tz" {
		return nil
	}
	text, ok := canonical.String(value)
	switch {
	case !ok:
		return matrix.Errorf(matrix.BadJSON, "%s has to be a string", field)
	case field == DisplayName && utf8.RuneCountInString(text) > maxDisplayNameLen:
		return matrix.Errorf(matrix.InvalidParam, "a display name has at most %d characters", maxDisplayNameLen)
	case field == AvatarURL && len(text) > maxAvatarURLBytes:
		return matrix.Errorf(matrix.InvalidParam, "the URL of an avatar has at most %d bytes", maxAvatarURLBytes)
	}
	return nil
}
