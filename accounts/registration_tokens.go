package accounts

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

const (
	// maxRegistrationTokenBytes is the specification's limit.
	maxRegistrationTokenBytes = 64
	registrationTokenLength   = 16
	registrationTokenLetters  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// ValidRegistrationToken says whether a registration token could be used now. Where registration is closed, that is told
// instead: no token opens it, and the tokens are nobody's to try.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity
func (a *Accounts) ValidRegistrationToken(ctx context.Context, token string) (bool, error) {
	if _, err := a.registrationFlow(); err != nil {
		return false, err
	}
	if !validRegistrationToken(token) {
		return false, nil
	}
	stored, found, err := users.RegistrationTokenByName(ctx, a.db, token)
	return found && stored.Valid(a.nowMS()), err
}

// validRegistrationToken keeps what cannot be a token from the database.
func validRegistrationToken(token string) bool {
	return len(token) <= maxRegistrationTokenBytes && matrix.ValidOpaqueID(token)
}

// checkRegistrationToken is the stage of registration. The use is counted when the account is made.
func (a *Accounts) checkRegistrationToken(ctx context.Context, token string) error {
	valid, err := a.ValidRegistrationToken(ctx, token)
	if err == nil && !valid {
		err = matrix.Errorf(matrix.Unauthorized, "the registration token is not valid")
	}
	return err
}

// AddRegistrationToken makes a registration token. An empty Token is filled in with a random one.
func (a *Accounts) AddRegistrationToken(ctx context.Context, t users.RegistrationToken) (users.RegistrationToken, error) {
	if t.Token == "" {
		made, err := a.randomName(registrationTokenLetters, registrationTokenLength)
		if err != nil {
			return t, err
		}
		t.Token = made
	}
	if !validRegistrationToken(t.Token) {
		return t, matrix.Errorf(matrix.InvalidParam, "a registration token has 1 to %d characters of A-Z, a-z, 0-9 and ._~-",
			maxRegistrationTokenBytes)
	}
	if t.UsesAllowed != nil && *t.UsesAllowed < 0 || t.ExpiresMS < 0 {
		return t, matrix.Errorf(matrix.InvalidParam, "uses and expiry of a registration token cannot be negative")
	}
	t.Completed = 0
	_, err := a.db.Commit(ctx, users.AddRegistrationToken{Token: t})
	if errors.Is(err, storage.ErrDuplicate) {
		err = matrix.Errorf(matrix.InvalidParam, "this registration token is already there")
	}
	return t, err
}

// RegistrationTokens returns a page of registration tokens, valid or not: those that come after the given one.
func (a *Accounts) RegistrationTokens(ctx context.Context, after string, limit int) ([]users.RegistrationToken, error) {
	return users.RegistrationTokens(ctx, a.db, after, min(max(limit, 1), maxUsersListed))
}

// RemoveRegistrationToken forgets a registration token. Accounts made with it stay.
func (a *Accounts) RemoveRegistrationToken(ctx context.Context, token string) error {
	_, err := a.db.Commit(ctx, users.RemoveRegistrationToken{Token: token})
	return err
}
