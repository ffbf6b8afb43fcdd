package users

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// Filter returns the content of a user's filter.
func Filter(ctx context.Context, q storage.Querier, user matrix.UserID, id string) ([]byte, bool, error) {
	return storage.One[[]byte](ctx, q, `
		SELECT content FROM filters
		WHERE user_id = $1 AND filter_id = $2`, user, id)
}

// CountFilters returns how many filters a user has.
func CountFilters(ctx context.Context, q storage.Querier, user matrix.UserID) (int, error) {
	n, _, err := storage.One[int](ctx, q, `SELECT COUNT(*) FROM filters WHERE user_id = $1`, user)
	return n, err
}

var filtersTable = storage.NewTable("filters", storage.Ignore, "user_id TEXT KEY, filter_id TEXT KEY, content TEXT")

// AddFilter stores a filter under an ID that is made from its content.
type AddFilter struct {
	User    matrix.UserID
	ID      string
	Content []byte
}

// Rows implements storage.Write.
func (w AddFilter) Rows(it *storage.Item) {
	it.Insert(filtersTable, w.User, w.ID, string(w.Content))
}
