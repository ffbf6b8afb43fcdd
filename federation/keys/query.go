package keys

import (
	"bytes"
	"context"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	maxQueryServers = 500 // in one question of another server
	maxQueryKeys    = 20  // of one server in it
	maxQueryFetches = 50  // of which so many may be asked

	// maxAnswerBytes is after how much no more documents are added to an answer.
	maxAnswerBytes      = 8 << 20
	documentsPerReading = 50
)

// criteria say which documents of a server are meant: those with the keys, each valid until a time. Without keys it is
// the newest, valid until the time of the empty ID.
type criteria map[signing.KeyID]int64

// Query answers POST /_matrix/key/v2/query: documents of other servers, with our signature. What is not known or not
// good for long enough is asked for; of a server that does not answer the answer has what was known before.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query
func (r *Ring) Query(ctx context.Context, body []byte) ([]byte, error) {
	question, err := parseQuery(body, r.nowMS())
	if err != nil {
		return nil, err
	}
	return r.query(ctx, question)
}

// QueryServer answers GET /_matrix/key/v2/query/{serverName}. The time is 0 if none was given.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername
func (r *Ring) QueryServer(ctx context.Context, name matrix.ServerName, minimumValidUntilMS int64) ([]byte, error) {
	if minimumValidUntilMS == 0 {
		minimumValidUntilMS = r.nowMS()
	}
	return r.query(ctx, map[matrix.ServerName]criteria{name: {"": minimumValidUntilMS}})
}

// parseQuery reads the body of a query. Names that are none are left out: nothing can be known of them.
func parseQuery(body []byte, nowMS int64) (map[matrix.ServerName]criteria, error) {
	obj, err := canonical.JSON(body, canonical.Lenient)
	if err != nil {
		return nil, err
	}
	asked := canonical.Get(obj, "server_keys")
	if len(asked) == 0 || asked[0] != '{' {
		return nil, matrix.Errorf(matrix.BadJSON, "server_keys must be an object")
	}
	question := map[matrix.ServerName]criteria{}
	for name, ids := range canonical.Fields(asked) {
		server, err := matrix.ParseServerName(name)
		if err != nil {
			continue
		}
		if len(question) == maxQueryServers {
			return nil, matrix.Errorf(matrix.TooLarge, "more than %d servers in one query", maxQueryServers)
		}
		question[server] = parseCriteria(ids, nowMS)
	}
	return question, nil
}

func parseCriteria(ids []byte, nowMS int64) criteria {
	c := criteria{}
	for name, raw := range canonical.Fields(ids) {
		id, err := signing.ParseKeyID(name)
		if err != nil || len(c) == maxQueryKeys {
			continue
		}
		until, said := canonical.Int(canonical.Get(raw, "minimum_valid_until_ts"))
		if !said {
			until = nowMS
		}
		c[id] = until
	}
	if len(c) == 0 {
		c[""] = nowMS
	}
	return c
}

func (r *Ring) query(ctx context.Context, question map[matrix.ServerName]criteria) ([]byte, error) {
	_, ourselves := question[r.settings.ServerName]
	delete(question, r.settings.ServerName)
	names := make([]matrix.ServerName, 0, len(question))
	for name := range question {
		names = append(names, name)
	}
	slices.Sort(names)
	found, err := r.load(ctx, names)
	if err != nil {
		return nil, err
	}
	var stale []matrix.ServerName
	for _, name := range names {
		if len(stale) < maxQueryFetches && !question[name].satisfied(found[name], r.nowMS()) {
			stale = append(stale, name)
		}
	}
	if len(stale) > 0 {
		r.askAll(ctx, stale, r.forOthers)
		if found, err = r.load(ctx, names); err != nil {
			return nil, err
		}
	}
	var numbers []int64
	for _, name := range names {
		numbers = append(numbers, question[name].documents(found[name])...)
	}
	return r.answer(ctx, numbers, ourselves)
}

// satisfied says whether what is known meets the criteria, and is fresh: half of its lifetime is left. No server can
// say anything of a time that is further away than keys are trusted.
func (c criteria) satisfied(k *known, nowMS int64) bool {
	for id, until := range c {
		key, there := k.keys[id]
		if id == "" {
			key, there = k.newestKey()
		}
		if !there {
			return false
		}
		halfMS := key.FetchedMS + (key.ValidUntilMS-key.FetchedMS)/2
		if !key.Retired && (key.ValidUntilMS < min(until, nowMS+maxValidity.Milliseconds()/2) || nowMS > halfMS) {
			return false
		}
	}
	return true
}

// documents are the numbers of those that have the keys; if none has, of the newest.
func (c criteria) documents(k *known) []int64 {
	var numbers []int64
	for id := range c {
		if key, there := k.keys[id]; there {
			numbers = append(numbers, key.Document)
		}
	}
	if key, there := k.newestKey(); there && len(numbers) == 0 {
		numbers = append(numbers, key.Document)
	}
	return numbers
}

// answer has the documents of those numbers, and perhaps our own, all with our signature.
func (r *Ring) answer(ctx context.Context, numbers []int64, ourselves bool) ([]byte, error) {
	text := []byte(`{"server_keys":[`)
	if ourselves {
		own, err := r.Published()
		if err != nil {
			return nil, err
		}
		text = append(append(text, own...), ',')
	}
	for some := range slices.Chunk(numbers, documentsPerReading) {
		documents, err := servers.Documents(ctx, r.settings.DB, some...)
		if err != nil {
			return nil, err
		}
		if text, err = r.appendSigned(text, documents); err != nil {
			return nil, err
		}
		if len(text) > maxAnswerBytes {
			break
		}
	}
	return append(bytes.TrimSuffix(text, []byte{','}), `]}`...), nil
}

func (r *Ring) appendSigned(text []byte, documents []servers.Document) ([]byte, error) {
	for _, d := range documents {
		signed, err := countersigned(d.JSON, r.settings.ServerName, r.settings.Key)
		if err != nil {
			return nil, err
		}
		text = append(append(text, signed...), ',')
	}
	return text, nil
}
