package servers_test

import (
	"fmt"
	"maps"
	"reflect"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

func (s *store) write(w storage.Write) storage.Position {
	s.t.Helper()
	p, err := s.Commit(s.ctx, w)
	if err != nil {
		s.t.Fatalf("%T: %v", w, err)
	}
	return p
}

func (s *store) owe(key, content string, to ...matrix.ServerName) storage.Position {
	s.t.Helper()
	return s.write(servers.OweEDU{Servers: to, Type: "m.x", Key: key, Content: []byte(content), NowMS: 5})
}

func (s *store) edus(server matrix.ServerName, after storage.Position) (contents []string) {
	s.t.Helper()
	list, err := servers.EDUsAfter(s.ctx, s, server, after, 10)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range list {
		if e.Type != "m.x" || e.CreatedMS != 5 {
			s.t.Errorf("got %+v", e)
		}
		contents = append(contents, string(e.Content))
	}
	return contents
}

func TestSaveOutbox(t *testing.T) {
	each(t, func(s *store) {
		plan := []servers.Debt{{Kind: servers.DebtEvents, Room: 7, At: 12}, {Kind: servers.DebtReceipts, Room: 7, After: 3, At: 9}}
		down := servers.Destination{Server: a, Plan: plan, Failures: 3, FailingMS: 100, RetryMS: 200}
		busy := servers.Destination{Server: b, Plan: []servers.Debt{}, Items: plan[:1]}
		lags := []servers.Lag{{a, servers.DebtEvents, 7, 3}, {a, servers.DebtReceipts, 7, 4}, {b, servers.DebtEvents, 9, 5}}
		s.write(servers.SaveOutbox{Position: 10, Destinations: []servers.Destination{down, busy}, Lags: lags})
		down.Items, busy.Plan = []servers.Debt{}, []servers.Debt{}
		s.holds(10, []servers.Destination{down, busy}, lags)
		lags[1].Acked = 8
		s.write(servers.SaveOutbox{
			Position: 20, Lags: lags[1:2], Settled: []matrix.ServerName{b, "unknown"},
			Caught: []servers.Lag{lags[0], {"unknown", servers.DebtEvents, 1, 0}},
		})
		s.holds(20, []servers.Destination{down}, lags[1:])
	})
}

// holds compares what is stored.
func (s *store) holds(at storage.Position, destinations []servers.Destination, lags []servers.Lag) {
	s.t.Helper()
	gotAt, err := servers.OutboxPosition(s.ctx, s)
	if err != nil || gotAt != at {
		s.t.Errorf("got position %d, %v, want %d", gotAt, err, at)
	}
	got, err := servers.Destinations(s.ctx, s)
	if err != nil || !reflect.DeepEqual(got, destinations) {
		s.t.Errorf("got destinations %v, %v, want %v", got, err, destinations)
	}
	gotLags, err := servers.Lags(s.ctx, s)
	if err != nil || !reflect.DeepEqual(gotLags, lags) {
		s.t.Errorf("got lags %v, %v, want %v", gotLags, err, lags)
	}
}

func TestEDUs(t *testing.T) {
	each(t, func(s *store) {
		first := s.owe("1", `{"n":1}`, a, b)
		second := s.owe("2", `{"n":2}`, a)
		third := s.owe("1", `{"n":3}`, a) // in place of the first
		if got, want := s.edus(a, 0), []string{`{"n":2}`, `{"n":3}`}; !reflect.DeepEqual(got, want) {
			s.t.Errorf("got %v, want %v", got, want)
		}
		if got, want := s.edus(a, second), []string{`{"n":3}`}; !reflect.DeepEqual(got, want) {
			s.t.Errorf("after the second: got %v, want %v", got, want)
		}
		at, err := servers.EDUsAt(s.ctx, s, a, first, third)
		if err != nil || len(at) != 1 || at[0].Position != third {
			s.t.Errorf("at two positions: got %v, %v, want the third", at, err)
		}
		s.owes(0, map[matrix.ServerName]storage.Position{a: third, b: first})
		s.owes(first, map[matrix.ServerName]storage.Position{a: third})
		s.write(servers.SaveOutbox{Delivered: []servers.Delivered{{a, []storage.Position{first, third}}}})
		s.owes(0, map[matrix.ServerName]storage.Position{a: second, b: first})
		s.write(servers.DropEDUs{BeforeMS: 5})
		s.owes(0, map[matrix.ServerName]storage.Position{a: second, b: first})
		s.write(servers.DropEDUs{BeforeMS: 6})
		s.owes(0, map[matrix.ServerName]storage.Position{})
	})
}

func (s *store) owes(after storage.Position, want map[matrix.ServerName]storage.Position) {
	s.t.Helper()
	got, err := servers.EDUsOwed(s.ctx, s, after)
	if err != nil || !maps.Equal(got, want) {
		s.t.Errorf("owed after %d: got %v, %v, want %v", after, got, err, want)
	}
}

// An EDU is news once, with itself as the value, but for its content; and none if it is for nobody.
func TestEDUsAreNews(t *testing.T) {
	each(t, func(s *store) {
		before := s.Position()
		w := servers.OweEDU{Servers: []matrix.ServerName{a, b}, Type: "m.x", Key: "k", Content: []byte(`{}`)}
		at := s.write(w)
		s.owe("nobody", `{}`)
		w.Content = nil
		news, _ := s.Since(before, 10)
		if len(news) != 1 || news[0].Kind != storage.NewsServer || news[0].Position != at || !reflect.DeepEqual(news[0].Value, w) {
			s.t.Errorf("got %+v, want one of %+v", news, w)
		}
	})
}

// row is a write of what other packages store.
type row struct {
	sql  string
	args []any
}

// Rows implements storage.Write.
func (r row) Rows(it *storage.Item) { it.Exec(r.sql, r.args...) }

func TestReceiptsMoved(t *testing.T) {
	each(t, func(s *store) {
		for i, typ := range []string{"m.read", "m.read", "m.read.private", "m.read"} {
			s.write(row{`
				INSERT INTO receipts (room_num, user_id, type, thread, event_id, ts, position)
				VALUES ($1, $2, $3, '', '$x', 0, $4)`, []any{1 + i/3, fmt.Sprint(i), typ, 10 * (i + 1)}})
		}
		for _, test := range []struct {
			after, upTo storage.Position
			want        map[int64]storage.Position
		}{
			{0, 100, map[int64]storage.Position{1: 20, 2: 40}},
			{10, 30, map[int64]storage.Position{1: 20}},
			{20, 30, map[int64]storage.Position{}},
		} {
			got, err := servers.ReceiptsMoved(s.ctx, s, test.after, test.upTo)
			if err != nil || !maps.Equal(got, test.want) {
				s.t.Errorf("in (%d, %d]: got %v, %v, want %v", test.after, test.upTo, got, err, test.want)
			}
		}
	})
}

// live stores events of two rooms at positions 10, 20, ..., every third of room 2, and history before the fourth.
func (s *store) live() {
	insert := `
		INSERT INTO events (event_num, room_num, event_id, kind, position, anchor, sub, type, sender, json)
		VALUES ($1, $2, $3, 0, $4, $5, $6, 't', 's', '{}')`
	for i := range 9 {
		room, at := 1, 10*(i+1)
		if i%3 == 2 {
			room = 2
		}
		s.write(row{insert, []any{i, room, fmt.Sprint(i), at, at, 0}})
	}
	for i := range 5 {
		s.write(row{insert, []any{100 + i, 1, fmt.Sprint("h", i), nil, 40, -1 - i}})
	}
}

func TestLogReads(t *testing.T) {
	each(t, func(s *store) {
		s.live() // room 1 has 10, 20, 40, 50, 70, 80
		newest := []struct {
			after, upTo storage.Position
			n           int
			want        storage.Position
		}{{0, 100, 2, 50}, {0, 100, 6, 0}, {0, 70, 1, 50}, {50, 100, 2, 0}, {0, 100, 3, 40}, {0, 100, 4, 20}}
		for _, test := range newest {
			got, err := servers.NthNewest(s.ctx, s, 1, test.after, test.upTo, test.n)
			if err != nil || got != test.want {
				s.t.Errorf("before the %d newest in (%d, %d]: got %d, %v, want %d", test.n, test.after, test.upTo, got, err, test.want)
			}
		}
		next := []struct {
			room        int64
			after, want storage.Position
		}{{0, 0, 10}, {0, 20, 30}, {1, 20, 40}, {2, 30, 60}, {0, 90, 0}, {1, 80, 0}, {3, 0, 0}}
		for _, test := range next {
			got, err := servers.NextEvent(s.ctx, s, test.room, test.after)
			if err != nil || got != test.want {
				s.t.Errorf("of room %d after %d: got %d, %v, want %d", test.room, test.after, got, err, test.want)
			}
		}
	})
}
