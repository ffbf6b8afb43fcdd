package keys

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

const (
	maxNotaryServers = 100 // in one question
	notaryTimeout    = 15 * time.Second

	// notaryPause is how long a notary that has failed is left alone, and how long notaries are not asked again about
	// one server.
	notaryPause = time.Minute
)

// askNotaries asks the notaries in turn for what is wanted.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query
func (r *Ring) askNotaries(ctx context.Context, w wanted) {
	rest := r.notTold(ctx, w)
	for _, notary := range r.settings.KeyServers {
		for batch := range slices.Chunk(slices.Collect(maps.Keys(rest)), maxNotaryServers) {
			err := r.askNotary(ctx, notary, rest.only(batch, notary))
			if err != nil {
				r.settings.Log.Debug("a notary was of no use", "server", notary, "cause", err)
				break
			}
		}
		found, err := r.load(ctx, slices.Collect(maps.Keys(rest)))
		if err != nil {
			return // find meets the same error, and returns it
		}
		rest = rest.lacking(found, r.nowMS())
	}
}

// notTold is what of w notaries were not asked about a moment ago. They are from now on.
func (r *Ring) notTold(ctx context.Context, w wanted) wanted {
	rest := wanted{}
	now := r.settings.Now()
	for server, ids := range w {
		due := false
		err := r.update(ctx, server, func(k *known) *known {
			if due = now.Sub(k.told) >= notaryPause; !due {
				return k
			}
			next := *k
			next.told = now
			return &next
		})
		if err == nil && due {
			rest[server] = ids
		}
	}
	return rest
}

// only is what is wanted of the servers named, but for the one that is asked.
func (w wanted) only(names []matrix.ServerName, but matrix.ServerName) wanted {
	some := wanted{}
	for _, name := range names {
		if name != but {
			some[name] = w[name]
		}
	}
	return some
}

// askNotary asks one notary, and learns what it says of the servers in question. Its signature must be on each
// document: it is the notary that is trusted, not the way to it alone.
func (r *Ring) askNotary(ctx context.Context, notary matrix.ServerName, w wanted) error {
	if len(w) == 0 || !r.resting.awake(notary, r.settings.Now()) {
		return nil
	}
	documents, err := r.notaryAnswer(ctx, notary, w)
	if err != nil {
		r.resting.rest(notary, r.settings.Now().Add(notaryPause))
		return err
	}
	objects := make([]Object, len(documents))
	for i, raw := range documents {
		objects[i] = Object{JSON: raw, Server: notary, AtMS: r.nowMS()}
	}
	var useful []document
	for i, err := range r.VerifyObjects(ctx, objects) {
		var d document
		if err == nil {
			d, err = r.parseWanted(documents[i], w)
		}
		if err != nil {
			r.settings.Log.Debug("a notary told something of no use", "server", notary, "cause", err)
			continue
		}
		useful = append(useful, d)
	}
	return r.learn(ctx, false, useful...)
}

// resting are the notaries that are left alone.
type resting struct {
	mu    sync.Mutex
	until map[matrix.ServerName]time.Time
}

func (r *resting) awake(notary matrix.ServerName, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !now.Before(r.until[notary])
}

func (r *resting) rest(notary matrix.ServerName, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until[notary] = until
}

// parseWanted reads a document of one of the servers in question.
func (r *Ring) parseWanted(raw []byte, w wanted) (document, error) {
	d, err := parseDocument(raw, r.settings.Now())
	if err == nil && w[d.server] == nil {
		return document{}, fmt.Errorf("a document of %s, which was not asked for", d.server)
	}
	return d, err
}

// notaryAnswer returns the documents that a notary has of the servers.
func (r *Ring) notaryAnswer(ctx context.Context, notary matrix.ServerName, w wanted) ([][]byte, error) {
	type criteria struct {
		MinimumValidUntilTS int64 `json:"minimum_valid_until_ts"`
	}
	question := map[matrix.ServerName]map[signing.KeyID]criteria{}
	for server, ids := range w {
		question[server] = map[signing.KeyID]criteria{}
		for id, at := range ids {
			question[server][id] = criteria{at.ms}
		}
	}
	content, err := canonical.Marshal(map[string]any{"server_keys": question})
	if err != nil {
		return nil, err
	}
	answer, err := r.settings.Client.Bytes(ctx, outbound.Call{
		To: notary, Method: http.MethodPost, URI: "/_matrix/key/v2/query", Content: content, Unsigned: true,
		MaxBytes: maxNotaryServers * maxDocumentBytes, Timeout: notaryTimeout,
	})
	if err != nil {
		return nil, err
	}
	if answer, err = canonical.JSON(answer, canonical.Lenient); err != nil {
		return nil, err
	}
	var documents [][]byte
	for raw := range canonical.Elements(canonical.Get(answer, "server_keys")) {
		if len(documents) == maxNotaryServers*maxSignatures {
			break
		}
		documents = append(documents, raw)
	}
	return documents, nil
}
