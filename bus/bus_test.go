package bus

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func start(t testing.TB, s Settings) *Bus {
	t.Helper()
	b, err := Start(s)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}

func embedded(t testing.TB) *Bus {
	t.Helper()
	return start(t, Settings{URL: Embedded, Name: "localhost"})
}

func subscribe(t testing.TB, b *Bus, topic string, f func([]byte)) (cancel func()) {
	t.Helper()
	cancel, err := b.Subscribe(topic, f)
	if err != nil {
		t.Fatalf("Subscribe(%q): %v", topic, err)
	}
	return cancel
}

func publish(t testing.TB, b *Bus, topic, data string) {
	t.Helper()
	if err := b.Publish(topic, []byte(data)); err != nil {
		t.Fatalf("Publish(%q): %v", topic, err)
	}
}

func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing came", what)
		panic("unreachable")
	}
}

// into returns a handler that hands on what it hears.
func into(c chan<- string) func([]byte) {
	return func(data []byte) { c <- string(data) }
}

func TestDelivery(t *testing.T) {
	topics := []string{
		"typing", "", "room.!a:example.org", "*", ">", "a.>", "with space\r\n", "\x00", strings.Repeat("long", 5000), "übel",
	}
	b := embedded(t)
	for _, topic := range topics {
		heard := make(chan string, 10)
		subscribe(t, b, topic, into(heard))
		publish(t, b, topic+"x", "not for us")
		for i := range 5 {
			publish(t, b, topic, fmt.Sprint(i))
		}
		for i := range 5 {
			if got, want := receive(t, heard, topic), fmt.Sprint(i); got != want {
				t.Errorf("topic %.20q: got %q, want %q", topic, got, want)
			}
		}
	}
}

func TestNamesAreApart(t *testing.T) {
	seen := map[string]string{}
	for _, pair := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"b", "bc"}} {
		s := subject(pair[0], pair[1])
		if other, ok := seen[s]; ok {
			t.Errorf("subject of %q equals that of %q", pair, other)
		}
		if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.") != "" || strings.Contains(s, "..") {
			t.Errorf("subject of %q is %q, want letters, digits and single dots", pair, s)
		}
		seen[s] = fmt.Sprint(pair)
	}
}

func TestHandlersOfOneTopic(t *testing.T) {
	b := embedded(t)
	first, second := make(chan string, 4), make(chan string, 4)
	cancelFirst := subscribe(t, b, "t", func(data []byte) {
		first <- string(data)
		data[0] = 'X' // each handler owns what it is given
	})
	cancelSecond := subscribe(t, b, "t", into(second))
	if got, want := b.conn.NumSubscriptions(), 2; got != want { // the other is that of losses
		t.Errorf("subscriptions: got %d, want %d", got, want)
	}
	publish(t, b, "t", "one")
	for _, c := range []chan string{first, second} {
		if got, want := receive(t, c, "both"), "one"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cancelFirst()
	cancelFirst()
	publish(t, b, "t", "two")
	if got, want := receive(t, second, "after cancel"), "two"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(first) != 0 {
		t.Errorf("a cancelled handler got %q", <-first)
	}
	cancelSecond()
	if got, want := b.conn.NumSubscriptions(), 1; got != want {
		t.Errorf("subscriptions after cancel: got %d, want %d", got, want)
	}
	subscribe(t, b, "t", into(second))
	publish(t, b, "t", "three")
	if got, want := receive(t, second, "subscribed again"), "three"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSequential fails under the race detector, and by its count, if two calls overlap.
func TestSequential(t *testing.T) {
	b := embedded(t)
	const messages = 2000
	count, done := 0, make(chan int)
	subscribe(t, b, "t", func([]byte) {
		count++
		if count == messages {
			done <- count
		}
	})
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for range messages / 4 {
				if err := b.Publish("t", nil); err != nil {
					t.Errorf("Publish: %v", err)
				}
			}
		})
	}
	publishers.Wait()
	if got := receive(t, done, "all messages"); got != messages {
		t.Errorf("got %d messages, want %d", got, messages)
	}
}

func TestHandlerUsesBus(t *testing.T) {
	b := embedded(t)
	heard := make(chan string, 1)
	var cancel func()
	ready := make(chan struct{})
	cancel = subscribe(t, b, "first", func(data []byte) {
		<-ready
		cancel()
		if _, err := b.Subscribe("second", into(heard)); err != nil {
			t.Errorf("Subscribe in a handler: %v", err)
		}
		if err := b.Publish("second", data); err != nil {
			t.Errorf("Publish in a handler: %v", err)
		}
	})
	close(ready)
	publish(t, b, "first", "x")
	if got, want := receive(t, heard, "second"), "x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPanicIsSurvived(t *testing.T) {
	var text bytes.Buffer
	b := start(t, Settings{URL: Embedded, Log: slog.New(slog.NewTextHandler(&text, nil))})
	heard := make(chan string, 2)
	subscribe(t, b, "t", func(data []byte) {
		if string(data) == "bad" {
			panic("a bug")
		}
		heard <- string(data)
	})
	publish(t, b, "t", "bad")
	publish(t, b, "t", "good")
	if got, want := receive(t, heard, "after the panic"), "good"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b.Close() // no more is logged
	if !strings.Contains(text.String(), "a bug") || !strings.Contains(text.String(), "bus_test.go") {
		t.Errorf("log: got %s, want the panic with its stack", text.String())
	}
}

func TestPayloadLimit(t *testing.T) {
	b := embedded(t)
	heard := make(chan int, 1)
	subscribe(t, b, "t", func(data []byte) { heard <- len(data) })
	if err := b.Publish("t", make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte too many: got %v, want %v", err, ErrTooLarge)
	}
	if err := b.Publish("t", make([]byte, MaxPayload)); err != nil {
		t.Errorf("largest message: %v", err)
	}
	if got := receive(t, heard, "largest message"); got != MaxPayload {
		t.Errorf("got %d bytes, want %d", got, MaxPayload)
	}
}

func TestClosed(t *testing.T) {
	b := embedded(t)
	running, release := make(chan struct{}), make(chan struct{})
	ended := false
	cancel := subscribe(t, b, "t", func([]byte) {
		close(running)
		<-release
		ended = true
	})
	publish(t, b, "t", "x")
	receive(t, running, "handler")
	go close(release)
	b.Close()
	if !ended {
		t.Error("Close returned while a handler was running")
	}
	b.Close()
	cancel()
	if err := b.Publish("t", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish: got %v, want %v", err, ErrClosed)
	}
	if _, err := b.Subscribe("u", func([]byte) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("Subscribe: got %v, want %v", err, ErrClosed)
	}
}

func TestBadURL(t *testing.T) {
	if b, err := Start(Settings{URL: "nats://[broken"}); err == nil {
		b.Close()
		t.Error("Start: got no error, want one")
	}
}

// TestSlowConsumer drops messages, and wants to be told after the last drop.
func TestSlowConsumer(t *testing.T) {
	b := embedded(t)
	told := make(chan struct{}, 1000)
	b.OnLost(func() { told <- struct{}{} })
	running, release := make(chan struct{}, 1), make(chan struct{})
	subscribe(t, b, "t", func([]byte) {
		select {
		case running <- struct{}{}:
			<-release
		default:
		}
	})
	publish(t, b, "t", "first")
	receive(t, running, "first message")
	running <- struct{}{} // so that only the first waits
	for range pendingMessages + 100 {
		publish(t, b, "t", "x")
	}
	// What is published on the connection comes in order: after this, all were dropped or queued.
	after := make(chan string, 1)
	subscribe(t, b, "after", into(after))
	publish(t, b, "after", "x")
	receive(t, after, "after")
	if len(told) != 0 {
		t.Error("told of a loss before the handler could go on")
	}
	close(release)
	receive(t, told, "loss")
}

func TestOnLostCancel(t *testing.T) {
	b := embedded(t)
	var calls []string
	cancel := b.OnLost(func() { calls = append(calls, "first") })
	b.OnLost(func() { calls = append(calls, "second"); panic("survived") })
	cancel()
	b.lost()
	if got, want := fmt.Sprint(calls), "[second]"; got != want {
		t.Errorf("calls: got %s, want %s", got, want)
	}
}

// cluster is a server outside of the buses, on a port of its own.
type cluster struct{ server *server.Server }

func startCluster(t *testing.T, port int) *cluster {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the cluster did not start")
	}
	c := &cluster{s}
	t.Cleanup(c.stop)
	return c
}

func (c *cluster) stop() {
	c.server.Shutdown()
	c.server.WaitForShutdown()
}

func (c *cluster) port() int { return c.server.Addr().(*net.TCPAddr).Port }

func TestNodes(t *testing.T) {
	c := startCluster(t, -1)
	url := fmt.Sprintf("nats://127.0.0.1:%d", c.port())
	one := start(t, Settings{URL: url, Name: "a"})
	two := start(t, Settings{URL: url, Name: "a"})
	stranger := start(t, Settings{URL: url, Name: "b"})
	heard, overheard := make(chan string, 10), make(chan string, 10)
	subscribe(t, two, "t", into(heard))
	subscribe(t, stranger, "t", into(overheard))
	publish(t, one, "t", "hello")
	if got, want := receive(t, heard, "other node"), "hello"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	lostAtOne, lostAtTwo := make(chan struct{}, 100), make(chan struct{}, 100)
	one.OnLost(func() { lostAtOne <- struct{}{} })
	two.OnLost(func() { lostAtTwo <- struct{}{} })
	port := c.port()
	c.stop()
	// More than is kept for an outage.
	var err error
	for range 3 {
		if e := one.Publish("t", make([]byte, outageBytes/2)); e != nil {
			err = e
		}
	}
	if err == nil {
		t.Error("messages beyond what is kept: got no error, want one")
	}
	startCluster(t, port)
	receive(t, lostAtOne, "reconnection")
	receive(t, lostAtTwo, "reconnection")
	if one.unsent.Load() {
		t.Error("the loss was not told after the reconnection")
	}
	one.unsent.Store(true)
	one.connected(one.conn)
	receive(t, lostAtTwo, "loss at the other node")
	publish(t, one, "t", "again")
	for receive(t, heard, "after reconnection") != "again" { // what was kept for the outage comes first
	}
	if len(overheard) != 0 {
		t.Errorf("another server heard %q", <-overheard)
	}
}

func TestClusterComesLater(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	b := start(t, Settings{URL: fmt.Sprintf("nats://127.0.0.1:%d", port)})
	connected := make(chan struct{}, 10)
	b.OnLost(func() { connected <- struct{}{} })
	startCluster(t, port)
	receive(t, connected, "connection")
	heard := make(chan string, 1)
	subscribe(t, b, "t", into(heard))
	publish(t, b, "t", "x")
	receive(t, heard, "message")
}

func BenchmarkPublishToDelivery(b *testing.B) {
	bus := embedded(b)
	heard := make(chan struct{})
	subscribe(b, bus, "room", func([]byte) { heard <- struct{}{} })
	data := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if err := bus.Publish("room", data); err != nil {
			b.Fatal(err)
		}
		<-heard
	}
}

func BenchmarkThroughput(b *testing.B) {
	bus := embedded(b)
	const ahead = 1000 // messages under way, fewer than would be dropped
	tickets := make(chan struct{}, ahead)
	subscribe(b, bus, "room", func([]byte) { <-tickets })
	data := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		tickets <- struct{}{}
		if err := bus.Publish("room", data); err != nil {
			b.Fatal(err)
		}
	}
}
