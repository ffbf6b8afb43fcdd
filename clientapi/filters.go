package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/roomserver/view"
)

type filterResponse struct {
	FilterID string `json:"filter_id"`
}

// addFilter keeps a filter, so that the client can name it later.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter
func (a *API) addFilter(ctx context.Context, c *httpapi.Call, in *httpapi.RawBody) (*filterResponse, error) {
	if err := own(c); err != nil {
		return nil, err
	}
	if _, err := view.ParseFilter(*in); err != nil {
		return nil, err
	}
	id, err := a.accounts.AddFilter(ctx, c.User, []byte(*in))
	if err != nil {
		return nil, err
	}
	return &filterResponse{id}, nil
}

// filter shows one of the caller's filters.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridfilterfilterid
func (a *API) filter(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	if err := own(c); err != nil {
		return nil, err
	}
	content, err := a.accounts.Filter(ctx, c.User, c.Path("filterID"))
	if err != nil {
		return nil, err
	}
	return (*httpapi.Raw)(&content), nil
}
