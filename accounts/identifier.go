package accounts

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

// identifier says who wants to log in.
// https://spec.matrix.org/v1.19/client-server-api/#identifier-types
type identifier struct {
	Type string `json:"type"`
	User string `json:"user"`
}

// parseIdentifier returns the user that raw names, or old, the field of before there were identifiers: a localpart or
// a whole user ID. It is empty for identifiers by mail address or telephone, which no account here has.
func parseIdentifier(raw json.RawMessage, old string) (string, error) {
	if absent(raw) {
		if old == "" {
			return "", matrix.Errorf(matrix.MissingParam, "an identifier is needed")
		}
		return old, nil
	}
	var id identifier
	if err := json.Unmarshal(raw, &id); err != nil {
		return "", matrix.Errorf(matrix.BadJSON, "identifier: not an identifier object")
	}
	switch id.Type {
	case "m.id.user":
		if id.User == "" {
			return "", matrix.Errorf(matrix.MissingParam, "identifier: user is missing")
		}
		return id.User, nil
	case "m.id.thirdparty", "m.id.phone":
		return "", nil
	}
	return "", matrix.Errorf(matrix.InvalidParam, "identifier: unknown type")
}

// absent says whether a member of a JSON object was left out or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// userID completes what a login calls the user. It is empty if it cannot be a user of this server.
func (a *Accounts) userID(name string) matrix.UserID {
	if !strings.HasPrefix(name, "@") {
		name = "@" + name + ":" + string(a.settings.ServerName)
	}
	id, err := matrix.ParseUserID(name)
	if err != nil || id.Server() != a.settings.ServerName {
		return ""
	}
	return id
}

// findForLogin looks a user up as people write their names: capitals count only for old IDs that have them.
func (a *Accounts) findForLogin(ctx context.Context, name string) (users.User, bool, error) {
	id := a.userID(name)
	if id == "" {
		return users.User{}, false, nil
	}
	user, found, err := users.ByID(ctx, a.db, id)
	lower := matrix.UserID("@" + asciiLower(id.Localpart()) + ":" + string(id.Server()))
	if found || err != nil || lower == id {
		return user, found, err
	}
	return users.ByID(ctx, a.db, lower)
}

// asciiLower lowers A to Z only. Unicode has letters, such as the Kelvin sign, that become ASCII in lower case: they
// would turn one name into another.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
