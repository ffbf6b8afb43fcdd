package accounts

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

// PasswordChange is a request to change one's password.
type PasswordChange struct {
	NewPassword  string
	KeepSessions bool            // the logout_devices of the request, turned around: by default other sessions end
	Auth         json.RawMessage // the auth member, as it was sent
}

// ChangePassword sets a new password, once the old one was given. The requester's own session goes on.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword
func (a *Accounts) ChangePassword(ctx context.Context, who matrix.Requester, in PasswordChange) error {
	if err := checkNewPassword(in.NewPassword); err != nil {
		return err
	}
	if err := a.confirm(ctx, who, operation{name: "change password", params: []any{in.NewPassword, in.KeepSessions}}, in.Auth); err != nil {
		return err
	}
	return a.setPassword(ctx, in.NewPassword, users.SetPassword{User: who.Account, Logout: !in.KeepSessions, Keep: who.Device})
}

// setPassword forgets the cached tokens of the user even if the outcome of the write is unknown: to look a token up
// again costs a read, to honour one that was to end costs the account.
func (a *Accounts) setPassword(ctx context.Context, password string, write users.SetPassword) error {
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	write.Hash = hash
	defer a.tokens.forget(write.User)
	_, err = a.db.Commit(ctx, write)
	return err
}

// Deactivate ends the requester's account, once the password was given: nobody can log in to it again, and its name is
// not given away again. With erase, what the account kept here goes too. The rooms are the caller's to leave, who then
// says so with [Accounts.Departed].
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate
func (a *Accounts) Deactivate(ctx context.Context, who matrix.Requester, erase bool, auth json.RawMessage) error {
	if err := a.confirm(ctx, who, operation{name: "deactivate", params: []bool{erase}}, auth); err != nil {
		return err
	}
	return a.DeactivateUser(ctx, who.Account, erase)
}

// DeactivateUser ends an account by decision of the administrator.
func (a *Accounts) DeactivateUser(ctx context.Context, user matrix.UserID, erase bool) error {
	defer a.tokens.forget(user)
	_, err := a.db.Commit(ctx, users.Deactivate{User: user, AtMS: a.nowMS(), Erase: erase})
	return err
}

// maxDeparting bounds how many users are named as departing at once; the others follow when these have left.
const maxDeparting = 1000

// Departing returns users whose account has ended and who may still be in rooms: leaving failed, or a crash came first.
func (a *Accounts) Departing(ctx context.Context) ([]matrix.UserID, error) {
	return users.Departing(ctx, a.db, maxDeparting)
}

// Departed notes that a user whose account has ended has left all rooms.
func (a *Accounts) Departed(ctx context.Context, user matrix.UserID) error {
	_, err := a.db.Commit(ctx, users.Departed{User: user})
	return err
}
