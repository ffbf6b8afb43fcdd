package accounts

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

const (
	// maxPasswordBytes keeps requests small; nobody types more.
	maxPasswordBytes = 512
	// maxBcryptBytes is how much of a password bcrypt looks at.
	maxBcryptBytes = 72
	// maxWaitingHashes is how many may wait for their turn to hash. More are told to come again.
	maxWaitingHashes = 256
	// hashRetryMS is when they may come again.
	hashRetryMS = 2000
)

// checkNewPassword says whether a password can be set. How strong it has to be is left to clients.
// https://spec.matrix.org/v1.19/client-server-api/#password-management
func checkNewPassword(password string) error {
	if password == "" {
		return matrix.Errorf(matrix.MissingParam, "a password is needed")
	}
	if len(password) > maxPasswordBytes {
		return matrix.Errorf(matrix.InvalidParam, "a password has at most %d bytes", maxPasswordBytes)
	}
	return nil
}

// hasher runs bcrypt for as many callers at once as leaves half of the processors to everything else.
type hasher struct {
	cost    int
	slots   chan struct{}
	waiting atomic.Int64
	nobody  []byte // a hash that no password has
}

func newHasher(cost int) *hasher {
	return &hasher{
		cost:  cost,
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		// Salt and digest of zeros: bcrypt only finds out that nothing matches after all its work.
		nobody: fmt.Appendf(nil, "$2a$%02d$%s", cost, "....................................................."),
	}
}

// hash returns the hash to store for a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	var hash []byte
	var failed error
	err := h.run(ctx, func() { hash, failed = bcrypt.GenerateFromPassword(bcryptInput(password), h.cost) })
	if err := errors.Join(err, failed); err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return string(hash), nil
}

// matches says whether hash was made from password. An empty hash matches nothing, in the time that one of a password takes.
func (h *hasher) matches(ctx context.Context, hash, password string) (bool, error) {
	against := []byte(hash)
	if hash == "" {
		against = h.nobody
	}
	var mismatch error
	if err := h.run(ctx, func() { mismatch = bcrypt.CompareHashAndPassword(against, bcryptInput(password)) }); err != nil {
		return false, err
	}
	if mismatch == nil || errors.Is(mismatch, bcrypt.ErrMismatchedHashAndPassword) {
		return mismatch == nil && hash != "", nil
	}
	return false, fmt.Errorf("compare with a stored password hash: %w", mismatch)
}

// bcryptInput is what stands for a password in bcrypt: itself if bcrypt can take all of it, as other servers do too,
// so that their hashes can be taken over; else its SHA-384, whose base64 has 64 bytes and no NUL.
func bcryptInput(password string) []byte {
	if len(password) <= maxBcryptBytes {
		return []byte(password)
	}
	sum := sha512.Sum384([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}

func (h *hasher) run(ctx context.Context, work func()) error {
	if h.waiting.Add(1) > maxWaitingHashes {
		h.waiting.Add(-1)
		return matrix.Errorf(matrix.LimitExceeded, "too many are logging in at the moment").
			With("retry_after_ms", int64(hashRetryMS))
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		work()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errWrongLogin is the same for an unknown user and for a wrong password, and takes as long.
func errWrongLogin() *matrix.Error {
	return matrix.Errorf(matrix.Forbidden, "wrong user name or password")
}

// verifyPassword returns the user if the password is right. That the account was deactivated is told to who knows the
// password only.
func (a *Accounts) verifyPassword(ctx context.Context, find func() (users.User, bool, error), password string) (users.User, error) {
	if len(password) > maxPasswordBytes {
		return users.User{}, errWrongLogin()
	}
	user, found, err := find()
	if err != nil {
		return users.User{}, err
	}
	right, err := a.hasher.matches(ctx, user.PasswordHash, password)
	switch {
	case err != nil:
		return users.User{}, err
	case !found || !right:
		return users.User{}, errWrongLogin()
	case user.DeactivatedMS != 0:
		return users.User{}, matrix.Errorf(matrix.UserDeactivated, "this account has been deactivated")
	}
	return user, nil
}
