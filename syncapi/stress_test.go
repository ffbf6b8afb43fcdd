package syncapi_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// patience is longer than any wake-up takes, and shorter than the hub waits until it looks at the log by itself.
const patience = 8 * time.Second

// TestNoWakeUpIsLost sends messages while clients are at every stage of a long poll: each must reach each of them at
// once.
func TestNoWakeUpIsLost(t *testing.T) {
	const clients, messages = 30, 150
	w := newWorld(t, "sqlite")
	room := w.create(alice, roomserver.CreateRoom{})
	var seen [messages + 1]atomic.Int64 // by how many clients, by message
	var waiting sync.WaitGroup
	for i := range clients {
		u := matrix.UserID(fmt.Sprintf("@poller%d:test", i))
		w.join(room, u)
		c := newClient(u, "D", 0, 8)
		c.token = w.askAs(t, c, query{"set_presence": "offline"}).NextBatch
		waiting.Go(func() { pollUntil(t, w, c, room, seen[:]) })
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := 1; i <= messages; i++ {
		w.send(alice, room, fmt.Sprint(i))
		for enough, start := random.Int64N(clients+1), time.Now(); seen[i].Load() < enough; {
			if time.Since(start) > patience {
				t.Fatalf("message %d: seen by %d clients, want %d at least", i, seen[i].Load(), enough)
			}
			time.Sleep(time.Duration(random.IntN(200)) * time.Microsecond)
		}
	}
	waiting.Wait()
}

// pollUntil polls until all messages have come, in order.
func pollUntil(t *testing.T, w *world, c *client, room matrix.RoomID, seen []atomic.Int64) {
	for next := 1; next < len(seen); {
		start := time.Now()
		a := w.askAs(t, c, query{"timeout": "60000", "set_presence": "offline"})
		if took := time.Since(start); took > patience {
			t.Errorf("%s: a poll took %v", c.user, took)
		}
		c.token = a.NextBatch
		for _, body := range bodies(a.Rooms.Join[room].Timeline.Events) {
			if body == fmt.Sprint(next) {
				seen[next].Add(1)
				next++
			}
		}
		if limited := a.Rooms.Join[room].Timeline.Limited; limited {
			for ; next < len(seen) && next <= latest(a.Rooms.Join[room].Timeline.Events); next++ {
				seen[next].Add(1)
			}
		}
	}
}

// latest returns the number of the last message.
func latest(list []clientEvent) (n int) {
	for _, body := range bodies(list) {
		_, _ = fmt.Sscan(body, &n)
	}
	return n
}

// TestClientsBesideWriters lets clients follow while others write and the memory is swept and lost under them.
func TestClientsBesideWriters(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		users := []matrix.UserID{alice, bob, carol}
		var all []matrix.RoomID
		for range 3 {
			all = append(all, w.create(alice, roomserver.CreateRoom{}))
		}
		var clients []*client
		for i := range 6 {
			clients = append(clients, newClient(users[i%3], fmt.Sprint(i), i*3, 1+i))
		}
		var writing, reading sync.WaitGroup
		var done atomic.Bool
		for i := range 3 {
			writing.Go(func() { writeAtRandom(t, w, users, all, rand.New(rand.NewPCG(uint64(i), 7))) })
		}
		for _, c := range clients {
			reading.Go(func() {
				for !done.Load() {
					c.take(t, w, w.askAs(t, c, query{"timeout": "20"}))
				}
			})
		}
		reading.Go(func() {
			for i := 0; !done.Load(); i++ {
				if w.api.Sweep(time.Now()); i%50 == 0 {
					w.api.Miss()
				}
				time.Sleep(time.Millisecond)
			}
		})
		writing.Wait()
		done.Store(true)
		reading.Wait()
		for _, c := range clients {
			c.take(t, w, w.askAs(t, c, nil))
			w.check(t, c, all)
		}
	})
}

func writeAtRandom(t *testing.T, w *world, users []matrix.UserID, all []matrix.RoomID, random *rand.Rand) {
	for i := range 120 {
		u, room := users[random.IntN(len(users))], all[random.IntN(len(all))]
		var err error
		switch random.IntN(8) {
		case 0:
			err = w.rooms.Leave(ctx, who(u), room, "")
		case 1, 2:
			err = w.rooms.Join(ctx, who(u), room, "")
		case 3:
			_, err = w.rooms.SendState(ctx, who(alice), roomserver.SendState{
				Room: room, Type: "m.room.topic", Content: fmt.Appendf(nil, `{"topic":"%d"}`, i),
			})
		default:
			_, err = w.rooms.Send(ctx, who(u), roomserver.SendEvent{
				Room: room, Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":"%d","msgtype":"m.text"}`, i),
			})
		}
		may(t, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t, "sqlite")
	kept := w.create(alice, roomserver.CreateRoom{})
	since := w.sync(alice, nil).NextBatch
	for range 5 {
		w.send(carol, w.create(carol, roomserver.CreateRoom{}), "nobody looks")
	}
	w.join(kept, bob)
	w.sync(bob, nil)
	w.api.Sweep(time.Now())
	users, rooms, bytes := w.api.Kept()
	if users != 2 || rooms != 1 || bytes != 0 {
		t.Errorf("got %d users, %d rooms and %d bytes too many, want alice, bob and their room", users, rooms, bytes)
	}
	w.api.Sweep(time.Now().Add(time.Hour))
	if users, rooms, bytes := w.api.Kept(); users != 0 || rooms != 0 || bytes != 0 {
		t.Errorf("after an hour: got %d users, %d rooms, %d bytes, want none", users, rooms, bytes)
	}
	w.send(bob, kept, "still there")
	got := bodies(w.sync(alice, query{"since": since}).Rooms.Join[kept].Timeline.Events)
	if want := []string{"join " + string(bob), "still there"}; !slices.Equal(got, want) {
		t.Errorf("sync after all was forgotten: got %q, want %q", got, want)
	}
}
