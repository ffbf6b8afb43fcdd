package accounts

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

// maxUsersListed bounds a page of Users.
const maxUsersListed = 1000

// NewUser is an account that the administrator makes.
type NewUser struct {
	Username string
	Password string
	Admin    bool
}

// CreateUser makes an account by decision of the administrator, without logging in.
func (a *Accounts) CreateUser(ctx context.Context, in NewUser) (matrix.UserID, error) {
	if err := checkNewPassword(in.Password); err != nil {
		return "", err
	}
	if err := a.free(ctx, in.Username); err != nil {
		return "", err
	}
	hash, err := a.hasher.hash(ctx, in.Password)
	if err != nil {
		return "", err
	}
	out, err := a.create(ctx, newAccount{
		username: in.Username, user: users.User{PasswordHash: hash, Admin: in.Admin}, inhibitLogin: true,
	})
	return out.User, err
}

// ResetPassword sets the password of a user by decision of the administrator; with logout, all its sessions end.
func (a *Accounts) ResetPassword(ctx context.Context, user matrix.UserID, password string, logout bool) error {
	if err := a.local(user); err != nil {
		return err
	}
	if err := checkNewPassword(password); err != nil {
		return err
	}
	return a.setPassword(ctx, password, users.SetPassword{User: user, Logout: logout})
}

// Users returns a page of accounts: those whose IDs come after the given one, in order of ID.
func (a *Accounts) Users(ctx context.Context, after matrix.UserID, limit int) ([]users.User, error) {
	return users.List(ctx, a.db, after, min(max(limit, 1), maxUsersListed))
}

// User returns an account, deactivated or not.
func (a *Accounts) User(ctx context.Context, id matrix.UserID) (users.User, error) {
	user, found, err := users.ByID(ctx, a.db, id)
	if err == nil && !found {
		err = matrix.Errorf(matrix.NotFound, "%s is not a user of this server", id)
	}
	return user, err
}
