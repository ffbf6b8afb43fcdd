package servers

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// OweEDU owes an EDU to servers, each of which gets it at least once, whatever happens meanwhile. To be committed
// together with what it tells of. The news is of the kind NewsServer, with the OweEDU as its value, but for the content,
// which would stay in memory.
type OweEDU struct {
	Servers []matrix.ServerName
	Type    string
	Key     string // within the type: a later EDU with the same key replaces one that was not sent yet; never empty
	Content []byte // a JSON object
	NowMS   int64
}

var edusTable = storage.NewTable("outbox_edus", storage.Replace, `
	server TEXT KEY, edu_key TEXT KEY, position BIGINT, type TEXT, content TEXT, created_ms BIGINT`)

// Rows implements storage.Write.
func (w OweEDU) Rows(it *storage.Item) {
	if len(w.Servers) == 0 {
		return
	}
	brief := w
	brief.Content = nil
	at := it.News(storage.News{Kind: storage.NewsServer, Value: brief})
	for _, s := range w.Servers {
		it.Insert(edusTable, s, w.Type+" "+w.Key, at, w.Type, string(w.Content), w.NowMS)
	}
}

// An EDU waits for its server.
type EDU struct {
	Position  storage.Position
	Type      string
	Content   []byte
	CreatedMS int64
}

func (e *EDU) scan(rows storage.Rows) error {
	return rows.Scan(&e.Position, &e.Type, &e.Content, &e.CreatedMS)
}

// EDUsAfter returns the EDUs for a server after a position, oldest first.
func EDUsAfter(ctx context.Context, q storage.Querier, server matrix.ServerName, after storage.Position, limit int) ([]EDU, error) {
	return storage.List(ctx, q, (*EDU).scan, `
		SELECT position, type, content, created_ms FROM outbox_edus
		WHERE server = $1 AND position > $2 ORDER BY position LIMIT $3`, server, after, int64(limit))
}

// EDUsAt returns the EDUs for a server that are at these positions, oldest first.
func EDUsAt(ctx context.Context, q storage.Querier, server matrix.ServerName, at ...storage.Position) ([]EDU, error) {
	return storage.List(ctx, q, (*EDU).scan, `
		SELECT position, type, content, created_ms FROM outbox_edus
		WHERE server = $1 AND position IN (SELECT CAST(key AS BIGINT) FROM json_each($2))
		ORDER BY position`, server, storage.Numbers(at...))
}

// EDUsOwed returns the last position of the EDUs for each server that has any after a position.
func EDUsOwed(ctx context.Context, q storage.Querier, after storage.Position) (map[matrix.ServerName]storage.Position, error) {
	owed := map[matrix.ServerName]storage.Position{}
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var server matrix.ServerName
		var last storage.Position
		err := rows.Scan(&server, &last)
		owed[server] = last
		return err
	}, `SELECT server, MAX(position) FROM outbox_edus WHERE position > $1 GROUP BY server`, after)
	return owed, err
}

// DropEDUs drops those made before a time: their servers are gone.
type DropEDUs struct{ BeforeMS int64 }

// Rows implements storage.Write.
func (w DropEDUs) Rows(it *storage.Item) {
	it.Exec(`DELETE FROM outbox_edus WHERE created_ms < $1`, w.BeforeMS)
}
