package clientapi

import (
	"context"
	"time"

	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

const (
	// maxBackfills is how often other servers are asked for one page.
	maxBackfills = 4
	// backfillTime is how long who reads waits for history of others. What came until then is kept.
	backfillTime = 8 * time.Second
)

// page reads a page of a room's timeline. History that this server does not hold is asked of others on the way
// backwards, once somebody wants to see it.
func (a *API) page(ctx context.Context, at eye, query view.PageQuery) (view.Page, error) {
	page, err := at.Messages(ctx, a.db, query)
	if err != nil || !query.Backward || query.Limit == 0 {
		return page, err
	}
	limited, cancel := context.WithTimeout(ctx, backfillTime)
	defer cancel()
	from := rooms.Order(query.From)
	for range maxBackfills {
		gap, there, err := a.gapIn(ctx, at, page, from)
		if err != nil {
			return page, err
		}
		if !there {
			break
		}
		gained, err := a.rooms.Backfill(limited, at.Room.ID, gap, query.Limit)
		if err != nil {
			if limited.Err() == nil || ctx.Err() != nil {
				return page, err
			}
			break // others are slow: what is here is shown
		}
		if gained == 0 {
			from = rooms.Order{Anchor: gap.Anchor, Sub: gap.Sub - 1} // perhaps there is more at the next
			continue
		}
		if page, err = at.Messages(ctx, a.db, query); err != nil {
			return page, err
		}
	}
	return page, nil
}

// gapIn finds where history of a page is missing, from a place on backwards: where the page lacks it in the middle, or
// where it comes to the end of what is here.
func (a *API) gapIn(ctx context.Context, at eye, page view.Page, from rooms.Order) (gap rooms.Order, there bool, err error) {
	found, err := rooms.GapsNear(ctx, a.db, at.Room.Num, from, 1)
	if err != nil || len(found) == 0 {
		return gap, false, err
	}
	gap = found[0].At
	if gap.Compare(from) > 0 {
		// The page before this one began with it, and nothing is missing further back.
		return gap, !page.More, nil
	}
	return gap, !page.More || gap.Compare(rooms.Order(page.End)) > 0, nil
}
