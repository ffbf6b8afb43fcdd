package roomserver_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// policyServer is a policy server that a room names, with its key.
type policyServer struct {
	w   *wire
	key signing.Key
}

const policyKeyID = "ed25519:policy_server"

// usePolicy makes elsewhere the policy server of the room, which signs all that it is asked about.
func (w *wire) usePolicy(seed byte) policyServer {
	w.t.Helper()
	p := policyServer{w: w, key: policyKeyOf(w.t, seed)}
	w.alice("m.room.policy", p.content())
	w.tie(w.room.ID)
	w.remote.policy = p.sign
	return p
}

func policyKeyOf(t testing.TB, seed byte) signing.Key {
	t.Helper()
	key, err := signing.NewKey(policyKeyID, bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (p policyServer) content() string {
	return fmt.Sprintf(`{"via":"elsewhere.org","public_keys":{"ed25519":%q}}`, signing.EncodeBase64(p.key.Public()))
}

func (p policyServer) sign(_ context.Context, ev *event.Event) (*event.Event, error) {
	return ev.Sign(elsewhere, p.key)
}

func (p policyServer) signed(ev *event.Event) *event.Event {
	p.w.t.Helper()
	signed, err := p.sign(p.w.t.Context(), ev)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return signed
}

// has says whether a stored event has the signature.
func (p policyServer) has(ev *event.Event) bool {
	return event.VerifySignature(ev, elsewhere, policyKeyID, p.key.Public()) == nil
}

func (w *wire) alice(typ, content string) {
	w.t.Helper()
	if _, err := w.s.SendState(context.Background(), as("alice"), roomserver.SendState{Room: w.room.ID, Type: typ, Content: []byte(content)}); err != nil {
		w.t.Fatal(err)
	}
}

// askedPolicy is how often the policy server was asked.
func (w *wire) askedPolicy() (n int) {
	w.remote.mu.Lock()
	defer w.remote.mu.Unlock()
	for _, what := range w.remote.asked {
		if strings.HasPrefix(what, "policy ") {
			n++
		}
	}
	return n
}

var (
	errSpam = matrix.Errorf(matrix.Forbidden, "this is spam").WithStatus(400)

	policyRefuses = func(context.Context, *event.Event) (*event.Event, error) { return nil, errSpam }
	policyIsDead  = func(context.Context, *event.Event) (*event.Event, error) { return nil, errDeaf }
	policyWaits   = func(ctx context.Context, _ *event.Event) (*event.Event, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
)

// Our own events go into the room with the signature, or not at all.
func TestPolicyOfOwnEvents(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		p := w.usePolicy(1)
		id, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "hello"))
		if err != nil {
			t.Fatal(err)
		}
		if got := w.stored(&event.Event{ID: id}); got == nil || !p.has(got.Event) || !slices.Equal(w.extremities(), []matrix.EventID{id}) {
			t.Errorf("got %v, want the event signed, and the only extremity", got)
		}
		w.alice("m.room.topic", `{"topic":"news"}`)
		if got, err := w.s.Current(ctx, w.room.ID); err != nil {
			t.Error(err)
		} else if topic, err := got.Event(ctx, event.Key{Type: "m.room.topic"}); err != nil || !p.has(topic.Event) {
			t.Errorf("the topic: got %v, %v, want it signed", topic, err)
		}
		stranger := policyServer{w, policyKeyOf(t, 9)}
		for name, c := range map[string]struct {
			says   func(context.Context, *event.Event) (*event.Event, error)
			status int
			text   string
		}{
			"refuses":             {policyRefuses, 400, "this is spam"},
			"signs with another":  {stranger.sign, 403, "has not signed"},
			"signs nothing":       {func(_ context.Context, ev *event.Event) (*event.Event, error) { return ev, nil }, 403, "has not signed"},
			"signs another event": {func(context.Context, *event.Event) (*event.Event, error) { return p.signed(w.base), nil }, 403, "has not signed"},
		} {
			w.remote.policy = c.says
			w.refusedSend(name, c.status, c.text)
		}
		w.remote.policy = policyIsDead
		w.refusedSend("cannot be reached", 502, "cannot be reached")
		asked := w.askedPolicy()
		w.remote.policy = p.sign
		w.refusedSend("is not asked again", 502, "cannot be reached")
		if now := w.askedPolicy(); now != asked {
			t.Errorf("one that cannot be reached was asked %d times more", now-asked)
		}
		testClock.advance(31 * time.Second)
		if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "hello again")); err != nil {
			t.Errorf("after a while: %v", err)
		}
		// The room gets rid of it whatever it says.
		w.remote.policy = policyRefuses
		w.alice("m.room.policy", `{}`)
		if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "free")); err != nil {
			t.Errorf("without a policy server: %v", err)
		}
	})
}

// refusedSend sends what must not get into the room.
func (w *wire) refusedSend(name string, status int, text string) {
	w.t.Helper()
	before := w.extremities()
	_, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, name))
	said, ok := err.(*matrix.Error)
	if !ok || said.Status() != status || !strings.Contains(said.Message, text) {
		w.t.Errorf("%s: got %v, want %d %q", name, err, status, text)
	}
	if now := w.extremities(); !slices.Equal(now, before) {
		w.t.Errorf("%s: the room has gone on to %v", name, now)
	}
}

// While the policy server is asked, the room goes on; what it signs is a branch then, and judged by what is current.
func TestPolicyWhileTheRoomGoesOn(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		p := w.usePolicy(1)
		w.remote.policy = func(ctx context.Context, ev *event.Event) (*event.Event, error) {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 5*time.Second {
				t.Errorf("asked until %v, want a deadline of 5 seconds", deadline)
			}
			w.must(roomserver.Accepted, p.signed(w.say(bobThere, "meanwhile", w.base)))
			return p.sign(ctx, ev)
		}
		id, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "slow"))
		if err != nil || len(w.extremities()) != 2 || w.stored(&event.Event{ID: id}) == nil {
			t.Fatalf("got %v, %v; want two branches", w.extremities(), err)
		}
		w.remote.policy = p.sign
		if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "joins them")); err != nil || len(w.extremities()) != 1 {
			t.Errorf("got %v, %v, want the branches joined", w.extremities(), err)
		}
		w.tie(w.room.ID)
		w.remote.policy = func(ctx context.Context, ev *event.Event) (*event.Event, error) {
			w.remote.policy = p.sign
			if err := w.s.Leave(ctx, as("alice"), w.room.ID, ""); err != nil {
				t.Error(err)
			}
			return p.sign(ctx, ev)
		}
		if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "too late")); matrix.CodeOf(err) != matrix.Forbidden {
			t.Errorf("from who has left meanwhile: got %v, want M_FORBIDDEN", err)
		}
	})
}

// A policy server that does not answer holds up nobody but who asks.
func TestPolicyThatWaits(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		p := w.usePolicy(1)
		asked := make(chan struct{})
		w.remote.policy = func(ctx context.Context, ev *event.Event) (*event.Event, error) {
			close(asked)
			return policyWaits(ctx, ev)
		}
		ctx, cancel := context.WithCancel(context.Background())
		sent := make(chan error)
		go func() {
			_, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "slow"))
			sent <- err
		}()
		<-asked
		w.must(roomserver.Accepted, p.signed(w.say(bobThere, "not held up", w.base)))
		cancel()
		if err := <-sent; err == nil {
			t.Error("what was not signed was sent")
		}
		// Who gave up does not speak for the policy server.
		w.remote.policy = p.sign
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "again")); err != nil {
			t.Error(err)
		}
	})
}

// What others send without the signature is asked about, and soft-failed if it does not get it.
func TestPolicyOfReceivedEvents(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		p := w.usePolicy(1)
		whole := p.signed(w.say(bobThere, "signed", w.base))
		w.must(roomserver.Accepted, whole)
		if n := w.askedPolicy(); n != 0 {
			t.Errorf("it was asked %d times about a signed event, and what names it", n)
		}
		stranger := policyServer{w, policyKeyOf(t, 9)}
		unsigned := w.say(bobThere, "unsigned", whole)
		wrong := stranger.signed(w.say(bobThere, "signed by another", unsigned))
		w.must(roomserver.Accepted, unsigned, wrong)
		for _, ev := range []*event.Event{unsigned, wrong} {
			if got := w.stored(ev); !p.has(got.Event) {
				t.Errorf("%s is stored without the signature", ev.Content)
			}
		}
		asked := w.askedPolicy()
		w.must(roomserver.Known, unsigned)
		if n := w.askedPolicy(); asked != 2 || n != 2 {
			t.Errorf("it was asked %d times about two events, and %d times when one came again", asked, n-asked)
		}
		for _, c := range []struct {
			name string
			says func(context.Context, *event.Event) (*event.Event, error)
		}{{"refuses", policyRefuses}, {"lies", stranger.sign}, {"dead", policyIsDead}, {"not asked again", p.sign}} {
			w.remote.policy = c.says
			if got := w.outcomes(w.say(bobThere, c.name, wrong)); got != "s" {
				t.Errorf("%s: got %s, want it soft-failed", c.name, got)
			}
		}
		w.must(roomserver.Accepted, p.signed(w.say(bobThere, "signed while it is dead", wrong)))
	})
}

// The policy server that is current when the owner comes to an event decides.
func TestPolicyThatChanges(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		p := w.usePolicy(1)
		w.alice("m.room.power_levels", `{"users":{"@bob:elsewhere.org":100}}`)
		w.tie(w.room.ID)
		w.remote.policy = policyRefuses
		removed := w.set(bobThere, "m.room.policy", `{}`, w.base)
		if got := w.outcomes(removed, w.say(bobThere, "free", removed)); got != "aa" {
			t.Errorf("the end of the policy server, and what follows: got %s, want both accepted", got)
		}
		asked := w.askedPolicy()
		w.tie(w.room.ID)
		for _, content := range []string{
			`{"via":"elsewhere.org"}`, `{"via":"elsewhere.org","public_keys":{"ed25519":1}}`, `{"via":"not a name","public_keys":{"ed25519":""}}`,
			strings.ReplaceAll(p.content(), "elsewhere.org", "absent.org"),
		} {
			named := w.set(bobThere, "m.room.policy", content, w.base)
			w.must(roomserver.Accepted, named)
			w.must(roomserver.Accepted, w.say(bobThere, "said", named))
			w.tie(w.room.ID)
		}
		if n := w.askedPolicy(); n != asked {
			t.Errorf("asked %d times where no policy server is in use", n-asked)
		}
		// What is no key signs nothing.
		named := w.set(bobThere, "m.room.policy", `{"via":"elsewhere.org","public_keys":{"ed25519":"x"}}`, w.base)
		w.must(roomserver.Accepted, named)
		w.remote.policy = p.sign
		if got := w.outcomes(p.signed(w.say(bobThere, "said", named))); got != "s" {
			t.Errorf("with a key that is none: got %s, want it soft-failed", got)
		}
		// With its last user the policy server has left.
		w.must(roomserver.Accepted, w.set(bobThere, "m.room.policy", p.content(), named))
		w.tie(w.room.ID)
		w.must(roomserver.Accepted, p.signed(w.member("carol:elsewhere.org", "carol:elsewhere.org", "leave", w.base)))
		w.tie(w.room.ID)
		w.must(roomserver.Accepted, p.signed(w.member(bobThere, bobThere, "leave", w.base)))
		w.remote.policy = policyRefuses
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "free")); err != nil {
			t.Errorf("after it has left: %v", err)
		}
	})
}

// Joins through us are asked about too, and so are our invites to other servers.
func TestPolicyOfVisitors(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		p := w.usePolicy(1)
		dan := w.join("dan:third.org", w.base)
		in := roomserver.Sent{Origin: "third.org", Room: w.room.ID, ID: dan.ID, Event: dan}
		w.remote.policy = policyRefuses
		if _, err := w.s.SendJoin(ctx, in, false); err == nil || !strings.Contains(err.Error(), "this is spam") {
			t.Errorf("a join that is refused: got %v", err)
		}
		move := roomserver.Move{Room: w.room.ID, Target: "@eve:third.org"}
		if _, err := w.s.DraftInvite(ctx, as("alice"), move, false); err == nil || !strings.Contains(err.Error(), "this is spam") {
			t.Errorf("an invite that is refused: got %v", err)
		}
		w.remote.policy = p.sign
		welcome, err := w.s.SendJoin(ctx, in, false)
		if err != nil || !p.has(w.stored(dan).Event) || welcome.Join.ID != dan.ID {
			t.Errorf("a join: got %v, want it signed", err)
		}
		invite, err := w.s.DraftInvite(ctx, as("alice"), move, false)
		if err != nil || !p.has(invite.Event) {
			t.Errorf("an invite: got %v, want it signed", err)
		}
	})
}

// Many who speak at once get their events in, whatever branches that makes.
func TestPolicyOfMany(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		p := w.usePolicy(1)
		var n atomic.Int32
		w.remote.policy = func(ctx context.Context, ev *event.Event) (*event.Event, error) {
			n.Add(1)
			return p.sign(ctx, ev)
		}
		errs := make(chan error)
		for i := range 30 {
			go func() {
				_, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, fmt.Sprint(i)))
				errs <- err
			}()
		}
		for range 30 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := n.Load(); got != 30 {
			t.Errorf("it was asked %d times about 30 events", got)
		}
	})
}

// Nothing is let in for its members that was kept out for its policy server.
func TestPartialJoinKeepsUnwanted(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		p := policyServer{w: w, key: policyKeyOf(t, 1)}
		w.base = w.set(bobThere, "m.room.policy", p.content(), w.base)
		w.enterPartly()
		w.remote.policy = p.sign
		w.must(roomserver.Accepted, w.say(bobThere, "signed", w.base))
		w.remote.policy = policyRefuses
		spam := w.say(bobThere, "spam", w.base)
		outcome := w.outcomes(spam)
		w.complete()
		if got := w.stored(spam); outcome != "s" || got.Kind != rooms.SoftFailed || w.isShown(spam) {
			t.Errorf("got %q and then kind %d, want it soft-failed for good", outcome, got.Kind)
		}
	})
}

// ending is a context of which the time is over when somebody says so.
type ending struct {
	context.Context
	over chan struct{}
}

func (c ending) Done() <-chan struct{} { return c.over }

func (c ending) Err() error {
	select {
	case <-c.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// That the time of who asks is over, or of all who ask at once, does not mean that the policy server is down.
func TestPolicyThatIsSlow(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		p := w.usePolicy(1)
		ctx := ending{context.Background(), make(chan struct{})}
		w.remote.policy = func(asking context.Context, ev *event.Event) (*event.Event, error) {
			close(ctx.over)
			return policyWaits(asking, ev)
		}
		if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "slow")); err == nil {
			t.Error("what was not signed was sent")
		}
		w.remote.policy = p.sign
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "again")); err != nil {
			t.Errorf("the next: got %v, want that it is asked", err)
		}
	})
}

// What a policy server had no time for is not kept, so that it can be sent again; what it was asked about is.
func TestPolicyWithoutTime(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		p := w.usePolicy(1)
		roomserver.SetPolicyPatience(w.s, 50*time.Millisecond)
		var events []*event.Event
		for i, prev := 0, w.base; i < 2*policy.MaxAsked; i++ {
			prev = w.say(bobThere, fmt.Sprint(i), prev)
			events = append(events, prev)
		}
		var asked atomic.Int64
		w.remote.policy = func(ctx context.Context, ev *event.Event) (*event.Event, error) {
			if asked.Add(1) > policy.MaxAsked {
				return policyWaits(ctx, ev)
			}
			return p.sign(ctx, ev)
		}
		for i, got := range w.s.Receive(context.Background(), elsewhere, w.room.ID, events) {
			late := i >= policy.MaxAsked
			if late && (got.Outcome != roomserver.Busy || w.stored(events[i]) != nil) {
				t.Errorf("event %d: got outcome %d, %v; want it not kept, to be sent again", i, got.Outcome, got.Err)
			}
			if !late && got.Outcome != roomserver.Accepted && got.Outcome != roomserver.Busy {
				t.Errorf("event %d: got outcome %d, %v; want it accepted, or to be sent again", i, got.Outcome, got.Err)
			}
		}
		w.remote.policy = p.sign
		roomserver.SetPolicyPatience(w.s, time.Minute)
		for i, got := range w.s.Receive(context.Background(), elsewhere, w.room.ID, events) {
			if got.Outcome != roomserver.Accepted && got.Outcome != roomserver.Known {
				t.Errorf("event %d again: got outcome %d, %v; want it accepted", i, got.Outcome, got.Err)
			}
		}
	})
}
