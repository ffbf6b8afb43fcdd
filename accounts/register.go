package accounts

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

// Registration is a request for an account.
type Registration struct {
	Username     string // empty: one is made
	Password     string
	Device       Device
	InhibitLogin bool            // make the account only, do not log in
	Auth         json.RawMessage // the auth member, as it was sent
}

// params is what a registration is bound to; nil if it says nothing yet.
func (r Registration) params() any {
	if r.Username == "" && r.Password == "" {
		return nil
	}
	return []any{r.Username, r.Password, r.Device, r.InhibitLogin}
}

// Register makes an account and logs in.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register
func (a *Accounts) Register(ctx context.Context, in Registration) (Session, error) {
	flow, err := a.registrationFlow()
	if err != nil {
		return Session{}, err
	}
	if err := a.checkRegistration(ctx, in); err != nil {
		return Session{}, err
	}
	proof, err := a.interact(ctx, operation{name: "register", params: in.params(), flows: []Flow{flow}}, in.Auth)
	if err != nil {
		return Session{}, err
	}
	hash, err := a.hasher.hash(ctx, in.Password)
	if err != nil {
		return Session{}, err
	}
	return a.create(ctx, newAccount{
		username: in.Username, user: users.User{PasswordHash: hash}, registrationToken: proof.token,
		device: in.Device, inhibitLogin: in.InhibitLogin,
	})
}

// registrationFlow is what people without an account have to show to get one.
func (a *Accounts) registrationFlow() (Flow, error) {
	switch a.settings.Registration {
	case config.Open:
		return Flow{[]string{TypeDummy}}, nil
	case config.WithToken:
		return Flow{[]string{TypeRegistrationToken}}, nil
	}
	return Flow{}, matrix.Errorf(matrix.Forbidden, "registration is closed on this server")
}

// checkRegistration refuses, before any authentication, what cannot succeed. A request that only asks for the flows
// has no password yet.
func (a *Accounts) checkRegistration(ctx context.Context, in Registration) error {
	if in.Username != "" {
		if err := a.free(ctx, in.Username); err != nil {
			return err
		}
	}
	if in.Device.ID != "" {
		if _, err := matrix.ParseDeviceID(in.Device.ID); err != nil {
			return err
		}
	}
	if in.Password == "" && absent(in.Auth) {
		return nil
	}
	return checkNewPassword(in.Password)
}

// Available returns nil if somebody may register that name now, or why not.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3registeravailable
func (a *Accounts) Available(ctx context.Context, username string) error {
	if _, err := a.registrationFlow(); err != nil {
		return err
	}
	return a.free(ctx, username)
}

// free looks only; that a name is given once is for the write to make sure.
func (a *Accounts) free(ctx context.Context, username string) error {
	id, err := a.newUserID(username)
	if err != nil {
		return err
	}
	taken, err := users.Exists(ctx, a.db, id)
	if err == nil && taken {
		err = errInUse(id)
	}
	return err
}

func errInUse(id matrix.UserID) error {
	return matrix.Errorf(matrix.UserInUse, "%s is taken", id)
}

// newUserID makes the ID of a new user. Capitals are lowered, as people type them without meaning another name.
func (a *Accounts) newUserID(username string) (matrix.UserID, error) {
	return matrix.NewUserID(asciiLower(username), a.settings.ServerName)
}

const (
	usernameLetters = "abcdefghijklmnopqrstuvwxyz0123456789"
	usernameLength  = 12
)

// RegisterGuest makes a guest account and logs in.
// https://spec.matrix.org/v1.19/client-server-api/#guest-access
func (a *Accounts) RegisterGuest(ctx context.Context, deviceName string) (Session, error) {
	if !a.settings.Guests {
		return Session{}, matrix.Errorf(matrix.GuestAccessForbidden, "this server has no guest accounts")
	}
	return a.create(ctx, newAccount{user: users.User{Guest: true}, device: Device{DisplayName: deviceName}})
}

// newAccount is an account to be made, when all was asked and proved.
type newAccount struct {
	username          string // empty: one is made
	user              users.User
	registrationToken string
	device            Device
	inhibitLogin      bool
}

// create stores the account with its first session in one write, so that there is no account whose maker was told of a
// failure.
func (a *Accounts) create(ctx context.Context, n newAccount) (Session, error) {
	if n.username == "" {
		made, err := a.randomName(usernameLetters, usernameLength)
		if err != nil {
			return Session{}, err
		}
		n.username = made
	}
	id, err := a.newUserID(n.username)
	if err != nil {
		return Session{}, err
	}
	n.user.ID, n.user.CreatedMS = id, a.nowMS()
	write := users.Create{User: n.user, RegistrationToken: n.registrationToken}
	out := Session{}
	if !n.inhibitLogin {
		session := users.Session{}
		if out, session, err = a.newSession(n.device); err != nil {
			return Session{}, err
		}
		write.Session = &session
	}
	out.User = id
	if _, err := a.db.Commit(ctx, write); errors.Is(err, storage.ErrDuplicate) {
		return Session{}, errInUse(id)
	} else if err != nil {
		return Session{}, err
	}
	return out, nil
}
