package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
)

// messages tells a page of a room's timeline.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages
func (a *API) messages(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	at, err := a.open(ctx, c)
	if err != nil {
		return nil, err
	}
	query, err := a.pageQuery(c, at)
	if err != nil {
		return nil, err
	}
	page := view.Page{End: query.From}
	if query.Filter.WantsRoom(at.Room.ID) {
		if page, err = a.page(ctx, at, query); err != nil {
			return nil, err
		}
	}
	out := canonical.AppendString([]byte(`{"start":`), query.From.String())
	if page.More {
		out = canonical.AppendString(append(out, `,"end":`...), page.End.String())
	}
	out, err = at.Append(ctx, append(out, `,"chunk":`...), page.Events, a.form())
	if err != nil {
		return nil, err
	}
	if query.Filter.LazyLoadMembers {
		members, err := a.senders(ctx, at.Room, page.Events)
		if err != nil {
			return nil, err
		}
		if out, err = at.Append(ctx, append(out, `,"state":`...), shown(members), a.stateForm()); err != nil {
			return nil, err
		}
	}
	out = append(out, '}')
	return (*httpapi.Raw)(&out), nil
}

// pageQuery reads what is asked for, cut to what the eye reaches.
func (a *API) pageQuery(c *httpapi.Call, at eye) (p view.PageQuery, err error) {
	if p.Filter, err = roomFilter(c); err != nil {
		return p, err
	}
	if p.Limit, err = pageLimit(c, p.Filter); err != nil {
		return p, err
	}
	switch dir := c.Query("dir"); dir {
	case "b":
		p.Backward, p.From = true, view.At(a.db.Position())
	case "f":
	case "":
		return p, matrix.Errorf(matrix.MissingParam, "\"dir\" must say where to go: b or f")
	default:
		return p, matrix.Errorf(matrix.InvalidParam, "\"dir\" must be b or f, not %q", dir)
	}
	if text := c.Query("from"); text != "" {
		if p.From, err = view.ParseGap(text); err != nil {
			return p, err
		}
	}
	if text := c.Query("to"); text != "" {
		to, err := view.ParseGap(text)
		if err != nil {
			return p, err
		}
		p.To = &to
	}
	return p.Within(at.Sight), nil
}
