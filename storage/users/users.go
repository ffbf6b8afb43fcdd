// Package users is the SQL of accounts: users, devices, tokens, profiles, account data, filters, and messages to devices.
//
// Reads are functions over a storage.Querier. Writes are values for the committer, and only package accounts makes
// them. No secret is stored as it is: passwords come as hashes, tokens as their SHA-256.
//
// What others are told of is news, with these values: an AccountDatum for account data, the name of the field for a
// profile, the []matrix.DeviceID for a device list, the []matrix.UserID of those for some device of whom a message came;
// nil where all of it may have changed.
package users

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// TokenHash is the SHA-256 of an access or login token.
type TokenHash [32]byte

// User is an account of this server.
type User struct {
	ID            matrix.UserID
	PasswordHash  string // empty: cannot log in with a password
	Admin         bool
	Guest         bool
	Type          string // empty, or what a provisioning program said it is
	CreatedMS     int64
	DeactivatedMS int64 // 0: active
	Erased        bool
}

const userColumns = `user_id, password_hash, admin, guest, user_type, created_ms, deactivated_ms, erased`

func (u *User) scan(rows storage.Rows) error {
	return rows.Scan(&u.ID, &u.PasswordHash, &u.Admin, &u.Guest, &u.Type, &u.CreatedMS, &u.DeactivatedMS, &u.Erased)
}

// ByID returns the user, deactivated or not.
func ByID(ctx context.Context, q storage.Querier, id matrix.UserID) (User, bool, error) {
	return storage.First(ctx, q, (*User).scan, `SELECT `+userColumns+` FROM users WHERE user_id = $1`, id)
}

// Exists says whether the user is an account of this server, deactivated or not.
func Exists(ctx context.Context, q storage.Querier, id matrix.UserID) (bool, error) {
	_, found, err := storage.One[matrix.UserID](ctx, q, `SELECT user_id FROM users WHERE user_id = $1`, id)
	return found, err
}

// List returns up to limit users whose IDs come after the given one, in order of ID.
func List(ctx context.Context, q storage.Querier, after matrix.UserID, limit int) ([]User, error) {
	return storage.List(ctx, q, (*User).scan, `
		SELECT `+userColumns+` FROM users
		WHERE user_id > $1
		ORDER BY user_id LIMIT $2`, after, limit)
}

var usersTable = storage.NewTable("users", storage.Fail, `
	user_id TEXT KEY, password_hash TEXT, admin BOOLEAN, guest BOOLEAN, user_type TEXT, created_ms BIGINT,
	deactivated_ms BIGINT, erased BOOLEAN`)

// Create makes an account. It fails with storage.ErrDuplicate if the user is already there.
type Create struct {
	User              User
	RegistrationToken string // empty: made without one. One use of it is taken.
	Session           *Session
}

// Rows implements storage.Write.
func (w Create) Rows(it *storage.Item) {
	u := w.User
	if w.RegistrationToken != "" {
		takeRegistrationToken(it, w.RegistrationToken, u.CreatedMS)
	}
	it.Insert(usersTable, u.ID, u.PasswordHash, u.Admin, u.Guest, u.Type, u.CreatedMS, u.DeactivatedMS, u.Erased)
	if w.Session != nil {
		w.Session.rows(it, u.ID)
	}
}

// SetPassword replaces the password hash of an active user, and voids the login tokens made with the old one.
type SetPassword struct {
	User   matrix.UserID
	Hash   string
	Logout bool            // remove the devices,
	Keep   matrix.DeviceID // but for this one
}

// Rows implements storage.Write.
func (w SetPassword) Rows(it *storage.Item) {
	it.Require(errNoUser(w.User), `
		UPDATE users SET password_hash = $2
		WHERE user_id = $1 AND deactivated_ms = 0`, w.User, w.Hash)
	it.Exec(`DELETE FROM login_tokens WHERE user_id = $1`, w.User)
	if w.Logout {
		RemoveAllDevices{User: w.User, Keep: w.Keep}.Rows(it)
	}
}

// Deactivate ends an account: no token or device of it remains. With Erase its password, profile, account data and
// filters go too; without, the password stays, so that who logs in with it can be told why this fails. The user is
// among the Departing until Departed.
type Deactivate struct {
	User  matrix.UserID
	AtMS  int64
	Erase bool
}

// Rows implements storage.Write.
func (w Deactivate) Rows(it *storage.Item) {
	it.Require(errNoUser(w.User), `
		UPDATE users
		SET deactivated_ms = CASE WHEN deactivated_ms = 0 THEN $2 ELSE deactivated_ms END
		WHERE user_id = $1`, w.User, w.AtMS)
	it.Insert(departuresTable, w.User)
	RemoveAllDevices{User: w.User}.Rows(it)
	it.Exec(`DELETE FROM login_tokens WHERE user_id = $1`, w.User)
	if !w.Erase {
		return
	}
	it.Exec(`UPDATE users SET erased = TRUE, password_hash = '' WHERE user_id = $1`, w.User)
	at := it.News(storage.News{Kind: storage.NewsProfile, User: w.User})
	it.Exec(`UPDATE profiles SET value = NULL, position = $2 WHERE user_id = $1 AND value IS NOT NULL`, w.User, at)
	it.Exec(`DELETE FROM account_data WHERE user_id = $1`, w.User)
	it.Exec(`DELETE FROM filters WHERE user_id = $1`, w.User)
}

var departuresTable = storage.NewTable("departures", storage.Ignore, "user_id TEXT KEY")

// Departed says that a user whose account has ended is in no room any more.
type Departed struct{ User matrix.UserID }

// Rows implements storage.Write.
func (w Departed) Rows(it *storage.Item) {
	it.Exec(`DELETE FROM departures WHERE user_id = $1`, w.User)
}

// Departing returns up to limit users whose account has ended and who may still be in rooms.
func Departing(ctx context.Context, q storage.Querier, limit int) ([]matrix.UserID, error) {
	return storage.Collect[matrix.UserID](ctx, q, `SELECT user_id FROM departures ORDER BY user_id LIMIT $1`, limit)
}

func errNoUser(u matrix.UserID) error {
	return matrix.Errorf(matrix.NotFound, "%s is no active account of this server", u)
}
