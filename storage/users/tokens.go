package users

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// RegistrationToken lets its holder make an account. A use is taken in the same commit as the account is made, so
// there are no pending uses to keep count of.
type RegistrationToken struct {
	Token       string
	UsesAllowed *int64 // nil: no limit
	Completed   int64
	ExpiresMS   int64 // 0: never
}

// Valid says whether the token can be used at that time.
func (t RegistrationToken) Valid(nowMS int64) bool {
	return (t.ExpiresMS == 0 || t.ExpiresMS > nowMS) && (t.UsesAllowed == nil || t.Completed < *t.UsesAllowed)
}

const registrationTokenColumns = `token, uses_allowed, completed, expires_ms`

func (t *RegistrationToken) scan(rows storage.Rows) error {
	return rows.Scan(&t.Token, &t.UsesAllowed, &t.Completed, &t.ExpiresMS)
}

// RegistrationTokenByName returns a token, valid or not.
func RegistrationTokenByName(ctx context.Context, q storage.Querier, token string) (RegistrationToken, bool, error) {
	return storage.First(ctx, q, (*RegistrationToken).scan, `
		SELECT `+registrationTokenColumns+` FROM registration_tokens WHERE token = $1`, token)
}

// RegistrationTokens returns up to limit tokens that come after the given one, in order.
func RegistrationTokens(ctx context.Context, q storage.Querier, after string, limit int) ([]RegistrationToken, error) {
	return storage.List(ctx, q, (*RegistrationToken).scan, `
		SELECT `+registrationTokenColumns+` FROM registration_tokens
		WHERE token > $1
		ORDER BY token LIMIT $2`, after, limit)
}

var registrationTokensTable = storage.NewTable("registration_tokens", storage.Fail, `
	token TEXT KEY, uses_allowed BIGINT, completed BIGINT, expires_ms BIGINT`)

// AddRegistrationToken stores a new token. It fails with storage.ErrDuplicate if the token is already there.
type AddRegistrationToken struct{ Token RegistrationToken }

// Rows implements storage.Write.
func (w AddRegistrationToken) Rows(it *storage.Item) {
	t := w.Token
	it.Insert(registrationTokensTable, t.Token, t.UsesAllowed, t.Completed, t.ExpiresMS)
}

// RemoveRegistrationToken forgets a token. Accounts made with it stay.
type RemoveRegistrationToken struct{ Token string }

// Rows implements storage.Write.
func (w RemoveRegistrationToken) Rows(it *storage.Item) {
	it.Require(matrix.Errorf(matrix.NotFound, "no such registration token"),
		`DELETE FROM registration_tokens WHERE token = $1`, w.Token)
}

// takeRegistrationToken counts one use of a token, or fails the item.
func takeRegistrationToken(it *storage.Item, token string, nowMS int64) {
	it.Require(matrix.Errorf(matrix.Unauthorized, "the registration token is used up or has expired"), `
		UPDATE registration_tokens SET completed = completed + 1
		WHERE token = $1
			AND (uses_allowed IS NULL OR completed < uses_allowed)
			AND (expires_ms = 0 OR expires_ms > $2)`, token, nowMS)
}

// LoginTokenOwner returns the active user whom a login token lets in, if it has not expired.
func LoginTokenOwner(ctx context.Context, q storage.Querier, hash TokenHash, nowMS int64) (matrix.UserID, bool, error) {
	return storage.One[matrix.UserID](ctx, q, `
		SELECT u.user_id
		FROM login_tokens t JOIN users u ON u.user_id = t.user_id
		WHERE t.token_hash = $1 AND t.expires_ms > $2 AND u.deactivated_ms = 0`, hash[:], nowMS)
}

var loginTokensTable = storage.NewTable("login_tokens", storage.Fail, `
	token_hash BYTEA KEY, user_id TEXT, expires_ms BIGINT`)

// AddLoginToken stores a login token, and forgets those that have expired.
type AddLoginToken struct {
	Hash      TokenHash
	User      matrix.UserID
	NowMS     int64
	ExpiresMS int64
}

// Rows implements storage.Write.
func (w AddLoginToken) Rows(it *storage.Item) {
	it.Insert(loginTokensTable, w.Hash[:], w.User, w.ExpiresMS)
	it.Exec(`DELETE FROM login_tokens WHERE expires_ms <= $1`, w.NowMS)
}
