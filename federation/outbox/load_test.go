package outbox

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const a = matrix.ServerName("a.example")

// manual is an outbox whose steps a test takes by itself.
type manual struct {
	*village
	box *Outbox
	now time.Time
	net *wire
}

func eachManual(t *testing.T, f func(m *manual)) {
	t.Helper()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		m := &manual{village: newVillage(t, db), now: time.UnixMilli(1e12), net: newWire(t, a)}
		m.restart()
		f(m)
	})
}

// restart forgets what was not stored.
func (m *manual) restart() {
	m.t.Helper()
	m.box = m.outbox(m.net, func() time.Time { return m.now })
	if !m.box.begin(context.Background()) {
		m.t.Fatal("the outbox does not begin")
	}
}

func (m *manual) dispatch() {
	m.t.Helper()
	if err := m.box.dispatch(context.Background()); err != nil {
		m.t.Fatal(err)
	}
}

// save stores what has changed.
func (m *manual) save() {
	m.t.Helper()
	m.commit(m.box.state.save())
}

// order returns the next transaction that is to be read, which must be there.
func (m *manual) order() order {
	m.t.Helper()
	orders, _ := m.box.state.start(m.now)
	if len(orders) != 1 {
		m.t.Fatalf("got %d transactions to send, want 1", len(orders))
	}
	return orders[0]
}

// load reads the next transaction; ok is false if there turns out to be nothing in it.
func (m *manual) load() (ord order, tx Transaction, ok bool) {
	m.t.Helper()
	ord = m.order()
	c, err := m.box.load(context.Background(), ord)
	if err != nil {
		m.t.Fatal(err)
	}
	ok = m.box.state.loaded(ord, c, m.now)
	return ord, c.contents.transaction(us, m.db.Incarnation()), ok
}

// deliver delivers all that can be, and returns the events.
func (m *manual) deliver() (got []matrix.EventID) {
	m.t.Helper()
	for range 1000 {
		orders, _ := m.box.state.start(m.now)
		if len(orders) == 0 {
			return got
		}
		c, err := m.box.load(context.Background(), orders[0])
		if err != nil {
			m.box.state.unread(orders[0], m.now)
			m.now = m.now.Add(readDelay)
			continue
		}
		if m.box.state.loaded(orders[0], c, m.now) {
			got = append(got, c.contents.transaction(us, "i").PDUs...)
			m.box.state.sent(orders[0], outcome{}, m.now)
		}
	}
	m.t.Fatal("there is no end to what is sent")
	return nil
}

func (m *manual) fail(ord order, out outcome) {
	m.box.state.sent(ord, out, m.now)
	m.now = m.now.Add(2 * time.Second)
}

func ids(events ...*testEvent) []matrix.EventID {
	var all []matrix.EventID
	for _, e := range events {
		all = append(all, e.id)
	}
	return all
}

// TestRepeatedTransaction: over failures and restarts the same transaction has the same ID, and the same content.
func TestRepeatedTransaction(t *testing.T) {
	eachManual(t, func(m *manual) {
		r := m.room("r", a)
		m.commit(servers.OweEDU{Servers: r.in, Type: "m.x", Key: "k", Content: []byte(`{"a" : 1}`), NowMS: 5})
		m.say(r, "1")
		m.say(r, "2")
		m.read(r, "@u:us.example", "", "$e")
		m.dispatch()
		ord, first, _ := m.load()
		if len(first.PDUs) != 2 || first.EDUs != 2 {
			m.t.Fatalf("got %s", first.Body)
		}
		m.fail(ord, outcome{verdict: unreachable})
		m.say(r, "3")
		m.dispatch()
		_, again, _ := m.load()
		if !reflect.DeepEqual(again, first) {
			m.t.Errorf("after a failure: got %s %s, want %s %s", again.ID, again.Body, first.ID, first.Body)
		}
		m.save()
		m.restart()
		ord, again, _ = m.load()
		if !reflect.DeepEqual(again, first) {
			m.t.Errorf("after a restart: got %s %s, want %s %s", again.ID, again.Body, first.ID, first.Body)
		}
		m.box.state.sent(ord, outcome{}, m.now)
		_, next, _ := m.load()
		if next.ID == first.ID || len(next.PDUs) != 1 || next.EDUs != 0 {
			m.t.Errorf("then: got %s %s, want the third event alone", next.ID, next.Body)
		}
	})
}

// TestNewestEvents: of a room in which it lags far behind, a destination gets the newest events.
func TestNewestEvents(t *testing.T) {
	eachManual(t, func(m *manual) {
		r, quiet := m.room("r", a), m.room("quiet", a)
		first := m.say(quiet, "x")
		m.dispatch()
		ord, _, _ := m.load()
		m.fail(ord, outcome{verdict: unreachable})
		var all []rooms.NewEvent
		for i := range maxCatchUp + 300 {
			n := m.event(r, fmt.Sprint(i))
			m.owes[n.ID] = r.in
			all = append(all, n)
		}
		m.commit(rooms.Append{Room: r.Room, Events: all})
		m.dispatch()
		var want []matrix.EventID
		for _, n := range all[300:] {
			want = append(want, n.ID)
		}
		m.now = m.now.Add(time.Hour)
		got := m.deliver()
		if len(got) == 0 || got[0] != first.id || !slices.Equal(got[1:], want) {
			m.t.Errorf("got %d events, from %v, want %d from %v", len(got), got[:min(3, len(got))], len(want)+1, want[:2])
		}
	})
}

// TestShutOut: a server that was away while it was kicked learns of it, and of nothing later.
func TestShutOut(t *testing.T) {
	eachManual(t, func(m *manual) {
		r := m.room("r", a)
		first := m.say(r, "1")
		m.dispatch()
		ord, _, _ := m.load()
		m.fail(ord, outcome{verdict: unreachable})
		kick := m.kick(r, a)
		m.dispatch()
		m.save()
		for i := range 3 * guessPage {
			m.say(r, fmt.Sprint("secret ", i))
		}
		m.dispatch()
		m.save()
		m.restart()
		m.now = m.now.Add(time.Hour)
		if got, want := m.deliver(), ids(first, kick); !slices.Equal(got, want) {
			m.t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestHistoryIsNotSent: history that was filled in between events is passed over, however much there is.
func TestHistoryIsNotSent(t *testing.T) {
	eachManual(t, func(m *manual) {
		r := m.room("r", a)
		first := m.say(r, "1")
		m.dispatch()
		ord, _, _ := m.load()
		m.fail(ord, outcome{verdict: unreachable})
		second := m.say(r, "2")
		third := m.say(r, "3")
		var old []rooms.NewEvent
		for i := range 2 * maxPDUs {
			n := m.event(r, "old")
			n.Kind, n.Order = rooms.Backfilled, rooms.Order{Anchor: third.position, Sub: int64(-1 - i)}
			m.owes[n.ID] = r.in
			old = append(old, n)
		}
		m.commit(rooms.Append{Room: r.Room, Events: old})
		m.dispatch()
		m.now = m.now.Add(time.Minute)
		if got, want := m.deliver(), ids(first, second, third); !slices.Equal(got, want) {
			m.t.Errorf("got %v, want %v", got, want)
		}
	})
}

// broken stores an event that cannot be read any more.
func (m *manual) broken(r *testRoom) *testEvent {
	e := m.say(r, "broken")
	m.commit(execWrite{`UPDATE events SET json = '{"type":' WHERE event_id = $1`, []any{e.id}})
	return e
}

type execWrite struct {
	sql  string
	args []any
}

// Rows implements storage.Write.
func (w execWrite) Rows(it *storage.Item) { it.Exec(w.sql, w.args...) }

// TestUnreadableEvent: an event that the database holds broken is left out, wherever it is met.
func TestUnreadableEvent(t *testing.T) {
	scenes := map[string]func(m *manual){
		"in the log": func(m *manual) {
			m.box.reader.since = func(storage.Position, int) ([]storage.News, bool) { return nil, false }
		},
		"when it is sent": func(m *manual) {
			m.dispatch()
			m.box.state.recent = newRecent()
		},
		"when a room catches up": func(m *manual) {
			m.dispatch()
			m.box.state.recent = newRecent()
			m.box.state.destinations[a].fold()
		},
		"after a restart": func(m *manual) {
			m.dispatch()
			m.box.state.destinations[a].fold()
			m.save()
			m.restart()
		},
	}
	for name, scene := range scenes {
		t.Run(name, func(t *testing.T) {
			eachManual(t, func(m *manual) {
				r := m.room("r", a)
				first := m.say(r, "1")
				m.broken(r)
				last := m.say(r, "3")
				scene(m)
				for range maxTroubles {
					_ = m.box.dispatch(context.Background())
				}
				if got, want := m.deliver(), ids(first, last); !slices.Equal(got, want) {
					m.t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
}

// TestLargeTransactions: what is too much for one transaction goes into several.
func TestLargeTransactions(t *testing.T) {
	eachManual(t, func(m *manual) {
		r := m.room("r", a)
		var want []matrix.EventID
		for range 6 {
			want = append(want, m.say(r, strings.Repeat("x", maxBytes/3)).id)
		}
		m.dispatch()
		ord, tx, _ := m.load()
		if len(tx.Body) > 2*maxBytes || len(tx.PDUs) == 0 || len(tx.PDUs) == 6 {
			m.t.Errorf("got %d events of %d bytes in one transaction", len(tx.PDUs), len(tx.Body))
		}
		m.box.state.sent(ord, outcome{}, m.now)
		if got := append(tx.PDUs, m.deliver()...); !slices.Equal(got, want) {
			m.t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestEDUQueue: EDUs are sent in order, a later one in place of an earlier with the same key, and their rows end.
func TestEDUQueue(t *testing.T) {
	eachManual(t, func(m *manual) {
		owe := func(key, content string) {
			m.commit(servers.OweEDU{Servers: []matrix.ServerName{a}, Type: "m.x", Key: key, Content: []byte(content)})
		}
		owe("1", `{"n":1}`)
		owe("2", `{"n":2}`)
		owe("broken", `{"n":`)
		owe("1", `{"n":3}`)
		m.dispatch()
		ord, tx, _ := m.load()
		want := `"edus":[{"content":{"n":2},"edu_type":"m.x"},{"content":{"n":3},"edu_type":"m.x"}]`
		if !strings.Contains(string(tx.Body), want) {
			m.t.Errorf("got %s, want %s", tx.Body, want)
		}
		owe("2", `{"n":4}`) // while the other is under way
		m.dispatch()
		m.box.state.sent(ord, outcome{}, m.now)
		m.save()
		m.restart()
		if _, tx, _ = m.load(); !strings.Contains(string(tx.Body), `"edus":[{"content":{"n":4},"edu_type":"m.x"}]`) {
			m.t.Errorf("then: got %s, want the fourth alone", tx.Body)
		}
	})
}

// TestReceipts: one EDU for the receipts of several users and rooms, more for those in several threads.
func TestReceipts(t *testing.T) {
	eachManual(t, func(m *manual) {
		r, q := m.room("a", a), m.room("b", a)
		m.read(r, "@u:us.example", "", "$1")
		m.read(r, "@u:us.example", "main", "$2")
		m.read(r, "@v:us.example", "", "$3")
		m.read(r, "@stranger:b.example", "", "$4")
		m.read(q, "@u:us.example", "", "$5")
		m.dispatch()
		m.now = m.now.Add(receiptDelay)
		_, tx, _ := m.load()
		one := `{"content":{"!a:us.example":{"m.read":{"@u:us.example":{"data":{"ts":7},"event_ids":["$1"]},` +
			`"@v:us.example":{"data":{"ts":7},"event_ids":["$3"]}}},` +
			`"!b:us.example":{"m.read":{"@u:us.example":{"data":{"ts":7},"event_ids":["$5"]}}}},"edu_type":"m.receipt"}`
		two := `{"content":{"!a:us.example":{"m.read":{"@u:us.example":{"data":{"thread_id":"main","ts":7},"event_ids":["$2"]}}}},"edu_type":"m.receipt"}`
		if want := `{"edus":[` + one + `,` + two + `],`; !strings.HasPrefix(string(tx.Body), want) {
			m.t.Errorf("got %s, want %s", tx.Body, want)
		}
	})
}

// TestManyReceipts: a user that reads in very many threads needs several transactions.
func TestManyReceipts(t *testing.T) {
	eachManual(t, func(m *manual) {
		r := m.room("a", a)
		const threads = 2*maxReceiptEDUs + 5
		for i := range threads {
			m.read(r, "@u:us.example", fmt.Sprint("$t", i), "$1")
		}
		m.dispatch()
		m.now = m.now.Add(receiptDelay)
		total := 0
		for range 3 {
			ord, tx, _ := m.load()
			total += tx.EDUs
			m.box.state.sent(ord, outcome{}, m.now)
		}
		if orders, _ := m.box.state.start(m.now); total != threads || len(orders) > 0 {
			m.t.Errorf("got %d EDUs and %d transactions more, want %d and none", total, len(orders), threads)
		}
	})
}

// TestReceiptsOfTheGone: who has left a room is not told who reads there.
func TestReceiptsOfTheGone(t *testing.T) {
	eachManual(t, func(m *manual) {
		r := m.room("a", a)
		m.read(r, "@u:us.example", "", "$1")
		m.dispatch()
		r.in = nil
		m.now = m.now.Add(receiptDelay)
		if _, tx, ok := m.load(); ok {
			m.t.Errorf("got %s, want nothing", tx.Body)
		}
	})
}
