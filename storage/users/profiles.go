package users

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// MaxProfileBytes is the size a whole profile has to stay under, as JSON.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname
const MaxProfileBytes = 64 << 10

// Profile returns the fields of a user's profile, each a JSON value. It is empty for a user without any.
func Profile(ctx context.Context, q storage.Querier, user matrix.UserID) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var field string
		var value json.RawMessage
		err := rows.Scan(&field, &value)
		fields[field] = value
		return err
	}, `SELECT field, value FROM profiles WHERE user_id = $1 AND value IS NOT NULL`, user)
	return fields, err
}

// ProfileField returns the JSON value of one field.
func ProfileField(ctx context.Context, q storage.Querier, user matrix.UserID, field string) ([]byte, bool, error) {
	return storage.One[[]byte](ctx, q, `
		SELECT value FROM profiles
		WHERE user_id = $1 AND field = $2 AND value IS NOT NULL`, user, field)
}

// SetProfileField sets or removes a field, if the whole profile stays under MaxProfileBytes.
type SetProfileField struct {
	User  matrix.UserID
	Field string
	Value []byte // JSON; nil: remove
}

// Rows implements storage.Write.
func (w SetProfileField) Rows(it *storage.Item) {
	at := it.News(storage.News{Kind: storage.NewsProfile, User: w.User, Value: w.Field})
	if w.Value == nil {
		it.Exec(`
			UPDATE profiles SET value = NULL, position = $3
			WHERE user_id = $1 AND field = $2 AND value IS NOT NULL`, w.User, w.Field, at)
		return
	}
	it.Require(errNoUser(w.User), `SELECT 1 FROM users WHERE user_id = $1 AND deactivated_ms = 0`, w.User)
	// Around each field stand two quotes, a colon and a comma; around all, two braces. The sum and the change are one
	// statement, so that changes at the same moment cannot exceed the limit together.
	value := string(w.Value)
	it.Require(matrix.Errorf(matrix.ProfileTooLarge, "a profile has to stay under %d bytes", MaxProfileBytes), `
		INSERT INTO profiles (user_id, field, value, position)
		SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT)
		WHERE $5 > (
			SELECT COALESCE(SUM(OCTET_LENGTH(field) + OCTET_LENGTH(value) + 4), 0) FROM profiles
			WHERE user_id = $1 AND field <> $2 AND value IS NOT NULL)
		ON CONFLICT (user_id, field) DO UPDATE SET value = excluded.value, position = excluded.position`,
		w.User, w.Field, value, at, MaxProfileBytes-2-len(w.Field)-len(value)-4)
}
