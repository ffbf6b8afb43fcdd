package history

import (
	"container/heap"
	"context"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits on what is given of the history at a time.
const (
	maxBackfill       = 500
	maxBackfillFrom   = 50
	maxMissing        = 50
	defaultMissing    = 10
	maxMissingNamed   = 100  // event IDs in either list of a question
	maxVisited        = 2000 // events that are looked at, those that are not given included
	historyReadAtOnce = 100
	// maxPages is how often events are read ahead. A walk that needs more leads elsewhere than to what was read.
	maxPages = 2 * maxVisited / historyReadAtOnce
)

// backfill returns events and what came before them, newest first.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid
func (a *API) backfill(ctx context.Context, c *peer.Call, _ *httpapi.None) (*httpapi.Answer, error) {
	limit, err := strconv.Atoi(c.Query("limit"))
	from := c.QueryAll("v")
	if err != nil || limit < 1 || len(from) == 0 || len(from) > maxBackfillFrom {
		return nil, matrix.Errorf(matrix.InvalidParam, "a limit is needed, and 1 to %d events to begin with", maxBackfillFrom)
	}
	v, err := a.eye(ctx, c)
	if err != nil {
		return nil, err
	}
	g := a.newGraph(v.Room)
	for _, id := range from {
		g.queue(matrix.EventID(id))
	}
	var pdus [][]byte
	for limit = min(limit, maxBackfill); len(pdus) < limit; {
		e, err := g.newest(ctx)
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		g.queue(e.PrevEvents...)
		pdu, ok, err := v.PDU(ctx, e)
		if err != nil {
			return nil, err
		}
		if ok {
			pdus = append(pdus, pdu)
		}
	}
	return a.transaction(pdus), nil
}

// missingEvents returns events that came before some and are not known to the server that asks, oldest first.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
func (a *API) missingEvents(ctx context.Context, c *peer.Call, in *remote.MissingEventsRequest) (*httpapi.Answer, error) {
	if len(in.Earliest) > maxMissingNamed || len(in.Latest) > maxMissingNamed || in.Limit < 0 {
		return nil, matrix.Errorf(matrix.InvalidParam, "at most %d events can be named", maxMissingNamed)
	}
	limit := min(in.Limit, maxMissing)
	if limit == 0 {
		limit = defaultMissing
	}
	v, err := a.eye(ctx, c)
	if err != nil {
		return nil, err
	}
	missing, err := a.newGraph(v.Room).between(ctx, *in, limit)
	if err != nil {
		return nil, err
	}
	pdus, err := shown(ctx, v, missing)
	if err != nil {
		return nil, err
	}
	return new(peer.Answer).Text(`{"events":`).List(pdus).Text("}").End(), nil
}

// A graph is a walk over the events of a room that have their place in it.
type graph struct {
	api     *API
	room    rooms.Room
	queued  map[matrix.EventID]bool
	waiting []matrix.EventID
	next    newestFirst                     // those that newest has read, and not returned
	events  map[matrix.EventID]*rooms.Event // read; nil: not there
	visited int
	pages   int // read ahead
}

func (a *API) newGraph(room rooms.Room) *graph {
	return &graph{api: a, room: room, queued: map[matrix.EventID]bool{}, events: map[matrix.EventID]*rooms.Event{}}
}

// queue names events to be visited, each once.
func (g *graph) queue(ids ...matrix.EventID) {
	for _, id := range ids {
		if !g.queued[id] {
			g.queued[id] = true
			g.waiting = append(g.waiting, id)
		}
	}
}

// newest visits the event of the greatest depth that waits; nil if there is none any more.
func (g *graph) newest(ctx context.Context) (*rooms.Event, error) {
	if err := g.read(ctx, g.waiting); err != nil {
		return nil, err
	}
	for _, id := range g.waiting {
		if e := g.events[id]; e != nil {
			heap.Push(&g.next, e)
		}
	}
	g.waiting = g.waiting[:0]
	if len(g.next) == 0 || g.visited == maxVisited {
		return nil, nil
	}
	g.visited++
	return heap.Pop(&g.next).(*rooms.Event), nil
}

// between walks from the latest events to the earliest, breadth first, and returns what it met, oldest first.
func (g *graph) between(ctx context.Context, in remote.MissingEventsRequest, limit int) ([]*rooms.Event, error) {
	for _, id := range in.Earliest {
		g.queued[id] = true
	}
	named := map[matrix.EventID]bool{}
	for _, id := range in.Latest {
		named[id] = true
	}
	g.queue(in.Latest...)
	var met []*rooms.Event
	for len(g.waiting) > 0 && g.visited < maxVisited && len(met) < limit {
		level := g.waiting
		g.waiting = nil
		if err := g.read(ctx, level); err != nil {
			return nil, err
		}
		for _, id := range level {
			e := g.events[id]
			g.visited++
			switch {
			case e == nil, !named[id] && (e.Depth < in.MinDepth || len(met) == limit):
				continue
			case !named[id]:
				met = append(met, e)
			}
			g.queue(e.PrevEvents...)
		}
	}
	slices.Reverse(met)
	return met, nil
}

// read reads events that were not yet, and for the first of them also those that stand before it in the timeline:
// mostly that is where the graph leads.
func (g *graph) read(ctx context.Context, ids []matrix.EventID) error {
	ask := slices.DeleteFunc(slices.Clone(ids), func(id matrix.EventID) bool {
		_, known := g.events[id]
		return known
	})
	if len(ask) == 0 {
		return nil
	}
	found, err := rooms.EventsByID(ctx, g.api.db, g.room, ask)
	if err != nil {
		return err
	}
	for _, id := range ask {
		g.events[id] = nil
	}
	g.add(found)
	if len(found) == 0 || found[0].Order == (rooms.Order{}) || g.pages == maxPages {
		return nil
	}
	g.pages++
	before, err := rooms.Page(ctx, g.api.db, g.room, rooms.PageQuery{
		From: found[0].Order, Backward: true, Limit: historyReadAtOnce,
	})
	g.add(before)
	return err
}

// add takes events that have a place in the room.
func (g *graph) add(events []*rooms.Event) {
	for _, e := range events {
		if e.Kind != rooms.Outlier {
			g.events[e.ID] = e
		}
	}
}

// newestFirst is a heap of events by their depth. The graph may have been made by somebody who wants it to be walked through
// slowly.
type newestFirst []*rooms.Event

// Len implements heap.Interface.
func (h newestFirst) Len() int { return len(h) }

// Less implements heap.Interface.
func (h newestFirst) Less(i, j int) bool {
	return h[i].Depth > h[j].Depth || h[i].Depth == h[j].Depth && h[i].Num > h[j].Num
}

// Swap implements heap.Interface.
func (h newestFirst) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *newestFirst) Push(x any) { *h = append(*h, x.(*rooms.Event)) }

// Pop implements heap.Interface.
func (h *newestFirst) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	*h = (*h)[:last]
	return e
}
