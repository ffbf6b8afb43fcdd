package keys

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	// Servers that are asked at once: for events, for requests, and for others that take us as a notary. Who lets us
	// ask dead servers without end for the one keeps the others from nothing.
	maxEventFetches    = 256
	maxRequestFetches  = 256
	maxNotarialFetches = 16
	maxFetchesPerBatch = 64 // of these, for one batch

	askTimeout    = 16 * time.Second // enough for a server whose discovery file never comes
	flightTimeout = 20 * time.Second // with the way to the database
	slotTimeout   = 5 * time.Second  // so that not everything that cannot be asked now waits

	// manyServers is from where on notaries are asked first: one request for all, instead of one for each of which
	// many go to servers that are gone.
	manyServers = 16
)

// wanted are the keys that are needed, of each server those with the IDs, and when each must be good.
type wanted map[matrix.ServerName]map[signing.KeyID]moment

func (w wanted) add(s matrix.ServerName, id signing.KeyID, at moment) {
	if w[s] == nil {
		w[s] = map[signing.KeyID]moment{}
	}
	w[s][id] = w[s][id].and(at)
}

// lacking is what of w is not known.
func (w wanted) lacking(found map[matrix.ServerName]*known, nowMS int64) wanted {
	rest := wanted{}
	for server, ids := range w {
		for id, at := range ids {
			if found[server].lacks(id, at, nowMS) {
				rest.add(server, id, at)
			}
		}
	}
	return rest
}

// find returns what is known of the servers, after having tried to learn what is wanted and not known.
func (r *Ring) find(ctx context.Context, w wanted, slots *slots) (map[matrix.ServerName]*known, error) {
	names := slices.Collect(maps.Keys(w))
	found, err := r.load(ctx, names)
	if err != nil {
		return nil, err
	}
	rest := w.lacking(found, r.nowMS())
	delete(rest, r.settings.ServerName)
	for _, learn := range r.sources(len(rest), slots) {
		if len(rest) == 0 {
			break
		}
		learn(ctx, rest)
		if found, err = r.load(ctx, names); err != nil {
			return nil, err
		}
		rest = rest.lacking(found, r.nowMS())
	}
	return found, nil
}

// sources are the ways to learn keys, in the order to try them.
func (r *Ring) sources(servers int, slots *slots) []func(context.Context, wanted) {
	direct := func(ctx context.Context, w wanted) { r.askAll(ctx, slices.Collect(maps.Keys(w)), slots) }
	switch {
	case len(r.settings.KeyServers) == 0:
		return []func(context.Context, wanted){direct}
	case servers > manyServers:
		return []func(context.Context, wanted){r.askNotaries, direct}
	}
	return []func(context.Context, wanted){direct, r.askNotaries}
}

// load returns what memory and database know of the servers; all of them are in the answer.
func (r *Ring) load(ctx context.Context, names []matrix.ServerName) (map[matrix.ServerName]*known, error) {
	found, rest := r.states.of(names)
	if len(rest) > 0 {
		stored, err := servers.Keys(ctx, r.settings.DB, rest...)
		if err != nil {
			return nil, fmt.Errorf("load signing keys: %w", err)
		}
		for _, name := range rest {
			found[name] = r.states.load(name, stored[name])
		}
	}
	if _, asked := found[r.settings.ServerName]; asked {
		found[r.settings.ServerName] = r.own
	}
	return found, nil
}

// update changes what is known of a server.
func (r *Ring) update(ctx context.Context, name matrix.ServerName, change func(*known) *known) error {
	for !r.states.update(name, change) {
		if _, err := r.load(ctx, []matrix.ServerName{name}); err != nil {
			return err
		}
	}
	return nil
}

// slots bound how many servers are asked at once for one purpose.
type slots struct {
	purpose string
	taken   chan struct{} // holds something for each that is
}

func newSlots(purpose string, n int) *slots { return &slots{purpose, make(chan struct{}, n)} }

// take waits for a slot, and says whether there was one. Give it back with release.
func (s *slots) take() bool {
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	select {
	case s.taken <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (s *slots) release() { <-s.taken }

// askAll asks each server for its keys, and waits. What came of it is in the states.
func (r *Ring) askAll(ctx context.Context, names []matrix.ServerName, slots *slots) {
	var all sync.WaitGroup
	defer all.Wait()
	batch := make(chan struct{}, maxFetchesPerBatch)
	for _, name := range names {
		select {
		case batch <- struct{}{}:
		case <-ctx.Done():
			return
		}
		all.Go(func() {
			r.ask(ctx, name, slots)
			<-batch
		})
	}
}

// ask asks a server for its keys, unless that was done a moment ago. Those who want the same at the same time wait for
// one request, which goes on, and keeps its slot, when nobody waits any more. But those with another purpose do not wait
// for a slot beside those of this one.
func (r *Ring) ask(ctx context.Context, name matrix.ServerName, slots *slots) {
	done := r.waits.DoChan(slots.purpose+" "+string(name), func() (any, error) {
		if !slots.take() {
			return nil, nil
		}
		defer slots.release()
		_, err, _ := r.flights.Do(string(name), func() (any, error) {
			return nil, r.fetch(context.WithoutCancel(ctx), name)
		})
		return nil, err
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// fetch asks a server for its keys. It must not panic: nobody could recover.
func (r *Ring) fetch(ctx context.Context, name matrix.ServerName) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.settings.Log.Error("panic while asking for signing keys", "server", name, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, flightTimeout)
	defer cancel()
	now := r.settings.Now()
	due := false
	err = r.update(ctx, name, func(k *known) *known {
		if due = k.due(now); !due {
			return k
		}
		next := *k
		next.asked = now
		next.failures++ // until the answer is there
		return &next
	})
	if err != nil {
		return err
	}
	if !due {
		return nil
	}
	d, err := r.askServer(ctx, name)
	if err != nil {
		failedFetches.Inc()
		r.settings.Log.Debug("a server did not tell its signing keys", "server", name, "cause", err)
		return err
	}
	goodFetches.Inc()
	return r.learn(ctx, true, d)
}

func (r *Ring) askServer(ctx context.Context, name matrix.ServerName) (document, error) {
	text, err := r.settings.Client.Bytes(ctx, outbound.Call{
		To: name, URI: "/_matrix/key/v2/server", Unsigned: true, MaxBytes: maxDocumentBytes, Timeout: askTimeout,
	})
	if err != nil {
		return document{}, err
	}
	d, err := parseDocument(text, r.settings.Now())
	if err != nil {
		return document{}, err
	}
	if d.server != name {
		return document{}, matrix.Errorf(matrix.BadJSON, "%s answered with the keys of %s", name, d.server)
	}
	return d, nil
}

// learn takes what documents say into memory, and into the database in one write.
func (r *Ring) learn(ctx context.Context, direct bool, documents ...document) error {
	var news writes
	for _, d := range documents {
		number := r.settings.DB.NextNumber()
		var keys []servers.Key
		err := r.update(ctx, d.server, func(k *known) *known {
			k, keys = k.heard(d, number, direct)
			return k
		})
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			stored := servers.Document{Number: number, Server: d.server, ValidUntilMS: d.validUntilMS, JSON: d.json}
			news = append(news, servers.SetKeys{Document: stored, Keys: keys})
		}
	}
	if len(news) == 0 {
		return nil
	}
	if _, err := r.settings.DB.Commit(ctx, news); err != nil {
		return fmt.Errorf("store signing keys: %w", err)
	}
	return nil
}

// writes are stored together.
type writes []servers.SetKeys

// Rows implements storage.Write.
func (w writes) Rows(it *storage.Item) {
	for _, one := range w {
		one.Rows(it)
	}
}
