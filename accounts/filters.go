package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/users"
)

const (
	maxFilterBytes    = 64 << 10
	maxFiltersPerUser = 1000
	filterIDBytes     = 12
)

// AddFilter stores a filter and returns its ID, which is the same for equal filters of a user. Whether the content is a
// filter is for the caller to check, who knows what filters mean.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter
func (a *Accounts) AddFilter(ctx context.Context, user matrix.UserID, content json.RawMessage) (string, error) {
	if len(content) > maxFilterBytes {
		return "", matrix.Errorf(matrix.TooLarge, "a filter has at most %d bytes", maxFilterBytes)
	}
	checked, err := canonical.JSON(content, canonical.Lenient)
	if err != nil {
		return "", err
	}
	if checked[0] != '{' {
		return "", matrix.Errorf(matrix.BadJSON, "a filter has to be an object")
	}
	sum := sha256.Sum256(checked)
	id := base64.RawURLEncoding.EncodeToString(sum[:filterIDBytes])
	if _, found, err := users.Filter(ctx, a.db, user, id); found || err != nil {
		return id, err
	}
	n, err := users.CountFilters(ctx, a.db, user)
	if err != nil {
		return "", err
	}
	if n >= maxFiltersPerUser {
		return "", matrix.Errorf(matrix.UserLimitExceeded, "a user has at most %d filters", maxFiltersPerUser)
	}
	_, err = a.db.Commit(ctx, users.AddFilter{User: user, ID: id, Content: checked})
	return id, err
}

// Filter returns the content of a user's filter.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridfilterfilterid
func (a *Accounts) Filter(ctx context.Context, user matrix.UserID, id string) (json.RawMessage, error) {
	content, found, err := users.Filter(ctx, a.db, user, id)
	if err == nil && !found {
		err = matrix.Errorf(matrix.NotFound, "no such filter")
	}
	return content, err
}
