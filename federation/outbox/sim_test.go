package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// peer is another server, as far as it receives.
type peer struct {
	name     matrix.ServerName
	txns     map[string][32]byte                // sums of their bodies
	events   map[matrix.RoomID][]matrix.EventID // in the order in which they were first seen
	seen     map[matrix.EventID]bool
	edus     map[string]int // by content
	receipts map[string]string
	poison   map[string]bool // bodies of events, and of EDUs, that it fails on
}

func newPeer(name matrix.ServerName) *peer {
	return &peer{
		name: name, txns: map[string][32]byte{}, events: map[matrix.RoomID][]matrix.EventID{}, seen: map[matrix.EventID]bool{},
		edus: map[string]int{}, receipts: map[string]string{}, poison: map[string]bool{},
	}
}

type txnBody struct {
	Origin matrix.ServerName `json:"origin"`
	PDUs   []struct {
		Room    matrix.RoomID         `json:"room_id"`
		TS      int64                 `json:"origin_server_ts"`
		Content struct{ Body string } `json:"content"`
	} `json:"pdus"`
	EDUs []struct {
		Type    string          `json:"edu_type"`
		Content json.RawMessage `json:"content"`
	} `json:"edus"`
}

var errPoison = &outbound.RemoteError{Status: 500}

// receive takes a transaction as a server does: all or nothing, and none twice.
func (p *peer) receive(t testing.TB, tx Transaction) error {
	var body txnBody
	if err := json.Unmarshal(tx.Body, &body); err != nil {
		t.Fatalf("%s got %s: %v", p.name, tx.Body, err)
	}
	if len(body.PDUs) > 50 || len(body.EDUs) > 100 || len(body.PDUs)+len(body.EDUs) == 0 || body.Origin != us {
		t.Errorf("%s got %d PDUs and %d EDUs from %s", p.name, len(body.PDUs), len(body.EDUs), body.Origin)
	}
	for _, pdu := range body.PDUs {
		if p.poison[pdu.Content.Body] {
			return errPoison
		}
	}
	for _, edu := range body.EDUs {
		if p.poison[string(edu.Content)] {
			return errPoison
		}
	}
	sum := sha256.Sum256(tx.Body)
	if before, known := p.txns[tx.ID]; known {
		if before != sum {
			t.Errorf("%s got transaction %s again, with different content: %s", p.name, tx.ID, tx.Body)
		}
		return nil
	}
	p.txns[tx.ID] = sum
	for i, pdu := range body.PDUs {
		if id := tx.PDUs[i]; !p.seen[id] {
			p.seen[id] = true
			p.events[pdu.Room] = append(p.events[pdu.Room], id)
		}
	}
	for _, edu := range body.EDUs {
		p.edus[string(edu.Content)]++
		if edu.Type == "m.receipt" {
			p.takeReceipts(t, edu.Content)
		}
	}
	return nil
}

func (p *peer) takeReceipts(t testing.TB, content []byte) {
	var all map[string]map[string]map[string]struct {
		Data struct {
			TS     int64
			Thread string `json:"thread_id"`
		}
		Events []string `json:"event_ids"`
	}
	if err := json.Unmarshal(content, &all); err != nil {
		t.Errorf("receipts %s: %v", content, err)
	}
	for room, types := range all {
		for user, r := range types["m.read"] {
			p.receipts[room+user+r.Data.Thread] = r.Events[0]
		}
	}
}

// sim drives the steps of an outbox, in an order and with failures that follow from a seed.
type sim struct {
	*village
	rand    *rand.Rand
	now     time.Time
	box     *Outbox
	rooms   []*testRoom
	servers []matrix.ServerName
	peers   map[matrix.ServerName]*peer
	down    map[matrix.ServerName]bool
	healed  bool

	orders  []order // to be read
	flights []simFlight
	keys    map[string]map[matrix.ServerName]string // EDUs: the latest content of each key, by server
	read    map[string]string                       // receipts
	moved   map[string]bool                         // into or out of a room
}

type simFlight struct {
	order order
	tx    Transaction
}

// Permits implements Sender.
func (s *sim) Permits(matrix.ServerName) error { return nil }

// Send implements Sender; the simulation sends by itself.
func (s *sim) Send(context.Context, matrix.ServerName, Transaction) (Answer, error) {
	return Answer{}, errors.New("not used")
}

func (s *sim) boot() {
	s.orders, s.flights = nil, nil
	s.box = s.outbox(s, func() time.Time { return s.now })
	s.box.reader.since = func(from storage.Position, limit int) ([]storage.News, bool) {
		if s.rand.IntN(4) == 0 {
			return nil, false // as if memory did not reach back so far
		}
		return s.db.Since(from, 1+s.rand.IntN(limit))
	}
	if !s.box.begin(context.Background()) {
		s.t.Fatal("cannot begin")
	}
}

func (s *sim) step(i int) {
	room := s.rooms[s.rand.IntN(len(s.rooms))]
	server := s.servers[s.rand.IntN(len(s.servers))]
	switch n := s.rand.IntN(100); {
	case n < 20:
		s.village.say(room, fmt.Sprint("message ", i))
	case n < 23:
		s.village.send(room, "from elsewhere")
	case n < 26:
		s.village.join(room, server)
		s.moved[string(room.ID)+string(server)] = true
	case n < 29:
		s.village.kick(room, server)
		s.moved[string(room.ID)+string(server)] = true
	case n < 34:
		s.edu(i)
	case n < 37:
		s.receipt(room)
	case n < 39:
		s.down[server] = !s.down[server]
	case n < 42:
		s.now = s.now.Add(time.Duration(s.rand.IntN(4000)) * time.Millisecond)
	case n < 44:
		s.box.Heard(server)
	case n < 45:
		s.boot()
	case n < 46:
		s.say(room, server)
	case n < 47:
		s.stop()
	default:
		s.work()
	}
}

func (s *sim) say(room *testRoom, _ matrix.ServerName) {
	ctx := context.Background()
	err := errors.Join(s.box.Typing(ctx, room.ID, "@a:us.example", s.rand.IntN(2) == 0),
		s.box.Presence(ctx, Presence{User: "@a:us.example", State: "online"}))
	if err != nil {
		s.t.Error(err)
	}
}

func (s *sim) edu(i int) {
	to := slices.Clone(s.servers[:1+s.rand.IntN(len(s.servers))])
	key := fmt.Sprint("key", i)
	if s.rand.IntN(2) == 0 {
		key = fmt.Sprint("shared", s.rand.IntN(3))
	}
	content := fmt.Sprintf(`{"n":%d}`, i)
	s.commit(servers.OweEDU{Servers: to, Type: "m.test", Key: key, Content: []byte(content), NowMS: s.now.UnixMilli()})
	if s.keys[key] == nil {
		s.keys[key] = map[matrix.ServerName]string{}
	}
	for _, server := range to {
		s.keys[key][server] = content
	}
}

func (s *sim) receipt(room *testRoom) {
	if len(s.events) == 0 {
		return
	}
	e := s.events[s.rand.IntN(len(s.events))]
	user, thread := matrix.UserID("@a:us.example"), fmt.Sprint("$t", s.rand.IntN(3))
	s.village.read(room, user, thread, e.id)
	s.read[string(room.ID)+string(user)+thread] = string(e.id)
}

// stop ends the outbox in order.
func (s *sim) stop() {
	if err := s.box.finish(); err != nil {
		s.t.Error(err)
	}
	s.boot()
}

// work does one thing of those that an outbox does at once.
func (s *sim) work() {
	ctx := context.Background()
	switch n := s.rand.IntN(10); {
	case n < 2:
		if err := s.box.dispatch(ctx); err != nil {
			s.t.Error(err)
		}
	case n < 4:
		s.start()
	case n < 7 && len(s.orders) > 0:
		s.load()
	case len(s.flights) > 0:
		s.fly()
	}
}

func (s *sim) start() {
	orders, save, _ := s.box.next(s.now)
	s.orders = append(s.orders, orders...)
	if save {
		s.box.store(context.Background())
	}
}

func (s *sim) load() {
	i := s.rand.IntN(len(s.orders))
	ord := s.orders[i]
	s.orders = slices.Delete(s.orders, i, i+1)
	c, err := s.box.load(context.Background(), ord)
	if err != nil {
		s.t.Error(err)
		s.box.state.unread(ord, s.now)
		return
	}
	if !s.healed && s.rand.IntN(20) == 0 {
		s.box.state.unread(ord, s.now)
		return
	}
	if s.box.state.loaded(ord, c, s.now) {
		s.flights = append(s.flights, simFlight{ord, c.contents.transaction(us, s.db.Incarnation())})
	}
}

func (s *sim) fly() {
	i := s.rand.IntN(len(s.flights))
	f := s.flights[i]
	s.flights = slices.Delete(s.flights, i, i+1)
	p := s.peers[f.order.server]
	var err error
	switch {
	case !s.healed && (s.down[p.name] || s.rand.IntN(6) == 0):
		err = errors.New("no route")
	default:
		err = p.receive(s.t, f.tx)
		if err == nil && !s.healed && s.rand.IntN(6) == 0 {
			err = errors.New("the answer was lost")
		}
	}
	s.box.state.sent(f.order, judge(err), s.now)
}

// settle lets everything arrive.
func (s *sim) settle() {
	s.healed = true
	for _, server := range s.servers {
		s.village.join(s.rooms[0], server)
		s.moved[string(s.rooms[0].ID)+string(server)] = true
	}
	for i := range 4000 {
		if err := s.box.dispatch(context.Background()); err != nil {
			s.t.Error(err)
		}
		s.start()
		for len(s.orders) > 0 {
			s.load()
		}
		for len(s.flights) > 0 {
			s.fly()
		}
		if len(s.box.state.destinations) == 0 && s.box.unsaved == nil {
			return
		}
		if i%20 == 0 && i < 2000 { // who says nothing cannot learn what is poison
			s.village.say(s.rooms[0], "later")
		}
		s.now = s.now.Add(500 * time.Millisecond)
		for name := range s.peers {
			s.box.Heard(name)
		}
	}
	for _, d := range s.box.state.destinations {
		s.t.Errorf("%s does not come to rest: %+v", d.server, d)
	}
}

// check holds what the peers have against what they are owed.
func (s *sim) check() {
	s.t.Helper()
	place := map[matrix.EventID]int{}
	for i, e := range s.events {
		place[e.id] = i
		for _, server := range s.servers {
			owed := slices.Contains(e.owed, server)
			p := s.peers[server]
			if got := p.seen[e.id]; got != (owed && !p.poison[e.body]) {
				s.t.Errorf("%s at %d: got sent to %s %t, want %t", e.id, e.position, server, got, owed)
			}
		}
	}
	for _, p := range s.peers {
		for room, ids := range p.events {
			if len(p.poison) == 0 && !slices.IsSortedFunc(ids, func(a, b matrix.EventID) int { return place[a] - place[b] }) {
				s.t.Errorf("%s got the events of %s in the order %v", p.name, room, ids)
			}
		}
	}
	s.checkEDUs()
	rows, err := servers.Destinations(context.Background(), s.db)
	lags, err2 := servers.Lags(context.Background(), s.db)
	edus, err3 := servers.EDUsOwed(context.Background(), s.db, 0)
	if err := errors.Join(err, err2, err3); err != nil || len(rows)+len(lags)+len(edus) > 0 {
		s.t.Errorf("nothing is owed any more: got the rows %v, %v, %v, %v", rows, lags, edus, err)
	}
}

func (s *sim) checkEDUs() {
	s.t.Helper()
	for key, to := range s.keys {
		for server, content := range to {
			if p := s.peers[server]; p.edus[content] == 0 && !p.poison[content] {
				s.t.Errorf("%s: got no EDU %s of %s", server, content, key)
			}
		}
	}
	for key, want := range s.read {
		for _, room := range s.rooms {
			if len(key) < len(room.ID) || key[:len(room.ID)] != string(room.ID) {
				continue
			}
			for _, server := range room.in {
				if s.moved[string(room.ID)+string(server)] {
					continue // receipts are for those who are there all the while
				}
				if got := s.peers[server].receipts[key]; got != want {
					s.t.Errorf("%s: got receipt %s at %s, want %s", server, key, got, want)
				}
			}
		}
	}
}

func newSim(t testing.TB, kind string, seed uint64) *sim {
	s := &sim{
		village: newVillage(t, storagetest.Open(t, kind)), rand: rand.New(rand.NewPCG(seed, 0)),
		now: time.UnixMilli(1e12), servers: names(4, "s"), peers: map[matrix.ServerName]*peer{},
		down: map[matrix.ServerName]bool{}, keys: map[string]map[matrix.ServerName]string{}, read: map[string]string{}, moved: map[string]bool{},
	}
	for _, name := range s.servers {
		s.peers[name] = newPeer(name)
	}
	for i := range 3 {
		s.rooms = append(s.rooms, s.room(fmt.Sprint("room", i), s.servers[:i+1]...))
	}
	s.boot()
	return s
}

// TestSimulation: whatever fails and whenever the process ends, all that is owed arrives, in the order of each room, and
// nothing else does.
func TestSimulation(t *testing.T) {
	for kind, seeds := range map[string]uint64{storagetest.SQLite: 10, storagetest.Postgres: 4} {
		for seed := range seeds {
			t.Run(fmt.Sprint(kind, " seed ", seed), func(t *testing.T) {
				s := newSim(t, kind, seed)
				for i := range 600 {
					s.step(i)
				}
				s.settle()
				s.check()
			})
		}
	}
}

// TestSimulatedPoison: a server that fails on some events and EDUs gets all the others.
func TestSimulatedPoison(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newSim(t, storagetest.SQLite, 100+seed)
			for i := range 40 {
				s.peers["s0.example"].poison[fmt.Sprint("message ", 10*i)] = true
				s.peers["s0.example"].poison[fmt.Sprintf(`{"n":%d}`, 10*i+int(seed))] = true
			}
			for i := range 400 {
				s.step(i)
			}
			s.settle()
			s.check()
		})
	}
}
