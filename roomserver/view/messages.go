package view

import (
	"context"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of a page.
const (
	MaxPage     = 1000   // events a page
	maxScanned  = 10_000 // events looked at for one page: what is hidden or filtered counts too
	minFetched  = 32     // events read at once
	fetchMargin = 8      // read beyond what is missing, as some may be hidden
)

// PageQuery asks for a page of a room's timeline.
type PageQuery struct {
	From     Gap
	To       *Gap // where to stop; nil: at the end
	Backward bool
	Limit    int // at most MaxPage
	Filter   *RoomEventFilter
}

// Within cuts what is asked for to what a viewer may see.
func (p PageQuery) Within(s Sight) PageQuery {
	if s.Until == 0 {
		return p
	}
	end := At(s.Until)
	if p.From.compare(end) > 0 {
		p.From = end
	}
	if !p.Backward && (p.To == nil || p.To.compare(end) > 0) {
		p.To = &end
	}
	return p
}

// nothing says whether what is asked for is empty whatever the room holds.
func (p PageQuery) nothing() bool {
	if p.To == nil {
		return false
	}
	if p.Backward {
		return p.From.compare(*p.To) <= 0
	}
	return p.From.compare(*p.To) >= 0
}

// Page is a stretch of a timeline in the order asked for.
type Page struct {
	Events []Seen
	End    Gap  // where the next page begins
	More   bool // false: nothing lies beyond End
}

// Messages returns the events that the viewer may see from a gap on. A page may
// be short though there is more, if most of what lies there is hidden.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages
func (v *Viewer) Messages(ctx context.Context, q storage.Querier, p PageQuery) (Page, error) {
	page := Page{End: p.From, More: !p.nothing()}
	for scanned := 0; page.More && scanned < maxScanned && len(page.Events) < p.Limit; {
		ask := p.chunk(page)
		chunk, err := rooms.Page(ctx, q, v.Room, ask)
		if err != nil {
			return Page{}, err
		}
		scanned += len(chunk)
		used, err := v.fill(ctx, &page, chunk, p)
		if err != nil {
			return Page{}, err
		}
		page.More = used < len(chunk) || len(chunk) == ask.Limit
	}
	return page, nil
}

// chunk is the next read for a page.
func (p *PageQuery) chunk(page Page) rooms.PageQuery {
	next := rooms.PageQuery{
		From: rooms.Order(page.End), Backward: p.Backward,
		Limit: max(minFetched, p.Limit-len(page.Events)+fetchMargin),
	}
	if p.To != nil {
		next.To = rooms.Order(*p.To)
	}
	return next
}

// fill adds what is wanted and visible of chunk to page, up to the limit. It returns how much of chunk it has used.
func (v *Viewer) fill(ctx context.Context, page *Page, chunk []*rooms.Event, p PageQuery) (used int, err error) {
	for i, e := range chunk {
		if len(page.Events) == p.Limit {
			return i, nil
		}
		page.End = After(e)
		if p.Backward {
			page.End = Before(e)
		}
		if p.Filter != nil && !p.Filter.WantsEvent(e.Event) {
			continue
		}
		seen, visible, err := v.Look(ctx, e)
		if err != nil {
			return i, err
		}
		if visible {
			page.Events = append(page.Events, seen)
		}
	}
	return len(chunk), nil
}
