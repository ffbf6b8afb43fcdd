package accounts

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

// Types of login, and stages of user-interactive authentication.
// https://spec.matrix.org/v1.19/client-server-api/#authentication-types
const (
	TypePassword          = "m.login.password"
	TypeToken             = "m.login.token"
	TypeDummy             = "m.login.dummy"
	TypeRegistrationToken = "m.login.registration_token"
)

// loginTokenLife is how long a login token is good for, as the specification recommends.
const loginTokenLife = 2 * time.Minute

// Device is what a client says about the device it logs in from.
type Device struct {
	ID          string // empty: one is made
	DisplayName string // for a device that is not there yet
}

// Session is a device that is logged in. Device and AccessToken are empty if the request wanted no login.
type Session struct {
	User        matrix.UserID
	Device      matrix.DeviceID
	AccessToken string
}

// Login is a request to log in.
type Login struct {
	Type       string
	Identifier json.RawMessage // with a password: who, as a user identifier object,
	User       string          // or in the old form
	Password   string
	Token      string // with TypeToken
	Device     Device
}

// LoginTypes returns the types that Login accepts.
func (a *Accounts) LoginTypes() []string { return []string{TypePassword, TypeToken} }

// Login opens a session on a device. The device's older token ends.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3login
func (a *Accounts) Login(ctx context.Context, in Login) (Session, error) {
	out, session, err := a.newSession(in.Device)
	if err != nil {
		return Session{}, err
	}
	write := users.Login{Session: session}
	switch in.Type {
	case TypePassword:
		err = a.provePassword(ctx, in, &write)
	case TypeToken:
		err = a.proveLoginToken(ctx, in.Token, &write)
	case "":
		err = matrix.Errorf(matrix.MissingParam, "a login type is needed")
	default:
		err = matrix.Errorf(matrix.Unknown, "unknown login type").WithStatus(400)
	}
	if err != nil {
		return Session{}, err
	}
	if _, err := a.db.Commit(ctx, write); err != nil {
		return Session{}, err
	}
	a.tokens.forget(write.User) // the device may have had another token
	out.User = write.User
	return out, nil
}

func (a *Accounts) provePassword(ctx context.Context, in Login, write *users.Login) error {
	name, err := parseIdentifier(in.Identifier, in.User)
	if err != nil {
		return err
	}
	user, err := a.verifyPassword(ctx, func() (users.User, bool, error) { return a.findForLogin(ctx, name) }, in.Password)
	if err != nil {
		return err
	}
	write.User, write.PasswordHash, write.Refusal = user.ID, user.PasswordHash, errWrongLogin()
	return nil
}

// proveLoginToken leaves it to the write to use the token up: two logins with one token at once would both find it.
func (a *Accounts) proveLoginToken(ctx context.Context, token string, write *users.Login) error {
	refusal := matrix.Errorf(matrix.Forbidden, "the login token is not valid")
	hash := hashToken(token)
	user, found, err := users.LoginTokenOwner(ctx, a.db, hash, write.Session.AtMS)
	if err != nil {
		return err
	}
	if !found {
		return refusal
	}
	write.User, write.LoginToken, write.Refusal = user, &hash, refusal
	return nil
}

// LoginToken makes a token by which somebody else, another device of the user as a rule, can log in once. It asks for
// the password each time.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token
func (a *Accounts) LoginToken(ctx context.Context, who matrix.Requester, auth json.RawMessage) (token string, life time.Duration, err error) {
	if err := a.confirm(ctx, who, operation{name: "login token"}, auth); err != nil {
		return "", 0, err
	}
	token, hash, err := a.newToken(loginTokenPrefix)
	if err != nil {
		return "", 0, err
	}
	now := a.nowMS()
	_, err = a.db.Commit(ctx, users.AddLoginToken{
		Hash: hash, User: who.Account, NowMS: now, ExpiresMS: now + loginTokenLife.Milliseconds(),
	})
	return token, loginTokenLife, err
}

const (
	deviceIDLetters  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	deviceIDLength   = 10
	maxDeviceNameLen = 100 // in characters
)

// newSession makes a token for a device: what the client gets of it, and what is stored.
func (a *Accounts) newSession(d Device) (Session, users.Session, error) {
	name := d.ID
	if name == "" {
		made, err := a.randomName(deviceIDLetters, deviceIDLength)
		if err != nil {
			return Session{}, users.Session{}, err
		}
		name = made
	}
	device, err := matrix.ParseDeviceID(name)
	if err != nil {
		return Session{}, users.Session{}, err
	}
	token, hash, err := a.newToken(accessTokenPrefix)
	if err != nil {
		return Session{}, users.Session{}, err
	}
	return Session{Device: device, AccessToken: token}, users.Session{
		Device: device, DisplayName: shorten(d.DisplayName, maxDeviceNameLen), Token: hash, AtMS: a.nowMS(),
	}, nil
}

// shorten cuts s after so many characters. A name that a client made up itself is no reason to refuse a login.
func shorten(s string, characters int) string {
	if len(s) <= characters || utf8.RuneCountInString(s) <= characters {
		return s
	}
	return string([]rune(s)[:characters])
}

// Logout ends a session and removes its device.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout
func (a *Accounts) Logout(ctx context.Context, who matrix.Requester) error {
	return a.removeDevices(ctx, who.Account, []matrix.DeviceID{who.Device})
}

// LogoutAll ends all sessions of the requester and removes their devices.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logoutall
func (a *Accounts) LogoutAll(ctx context.Context, who matrix.Requester) error {
	defer a.tokens.forget(who.Account)
	_, err := a.db.Commit(ctx, users.RemoveAllDevices{User: who.Account})
	return err
}
