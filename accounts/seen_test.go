package accounts

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestSeenIsShownAtOnceAndWrittenLater(t *testing.T) {
	each(t, func(w *world) {
		s, who := w.register("alice")
		stored := func() users.Device {
			d, _, err := users.DeviceByID(w.ctx, w.db, who.Account, s.Device)
			wantCode(w.t, "device", err, "")
			return d
		}
		w.Seen(who, "192.0.2.1")
		if d, err := w.Device(w.ctx, who.Account, s.Device); err != nil || d.SeenMS != w.nowMS() || d.SeenIP != "192.0.2.1" {
			w.t.Errorf("shown: got %+v, %v, want now from 192.0.2.1", d, err)
		}
		if d := stored(); d.SeenMS != 0 {
			w.t.Errorf("stored before it was written: got %+v", d)
		}
		wantCode(w.t, "flush", w.flushSeen(w.ctx), "")
		first := stored()
		if first.SeenMS != w.nowMS() || first.SeenIP != "192.0.2.1" {
			w.t.Errorf("stored: got %+v, want now from 192.0.2.1", first)
		}

		w.clock.Advance(seenEvery - time.Millisecond)
		w.Seen(who, "192.0.2.1")
		wantCode(w.t, "flush", w.flushSeen(w.ctx), "")
		if d := stored(); d != first {
			w.t.Errorf("soon after: got %+v, want it unchanged: %+v", d, first)
		}
		w.Seen(who, "2001:db8::1")
		wantCode(w.t, "flush", w.flushSeen(w.ctx), "")
		if d := stored(); d.SeenIP != "2001:db8::1" || d.SeenMS != w.nowMS() {
			w.t.Errorf("from elsewhere: got %+v, want it written", d)
		}
	})
}

func TestABusyDeviceIsWrittenOnceInAWhile(t *testing.T) {
	s := newSightings()
	writes := 0
	for second := range int64(3600) {
		for range 10 {
			s.note(users.Sighting{User: "@a:x", Device: "D", AtMS: second * 1000, IP: "i"})
		}
		if second%60 == 0 {
			writes += len(s.take(second * 1000))
		}
	}
	if writes != 12 {
		t.Errorf("writes in an hour: got %d, want 12", writes)
	}
}

func TestSightingsAreBoundedAndForgotten(t *testing.T) {
	s := newSightings()
	for i := range maxSeen + 10 {
		s.note(users.Sighting{User: "@a:x", Device: matrix.DeviceID(fmt.Sprint(i)), AtMS: 1})
	}
	if len(s.last) != maxSeen {
		t.Errorf("remembered: got %d, want %d", len(s.last), maxSeen)
	}
	if n := len(s.take(1)); n != maxSeen {
		t.Errorf("to write: got %d, want %d", n, maxSeen)
	}
	if n := len(s.take(1)); n != 0 {
		t.Errorf("to write again: got %d, want 0", n)
	}
	s.take(1 + seenEvery.Milliseconds())
	if len(s.last) != 0 {
		t.Errorf("remembered after a while: got %d, want 0", len(s.last))
	}
}

func TestRunWritesWhatIsLeftWhenItStops(t *testing.T) {
	w := onSQLite(t)
	s, who := w.register("alice")
	w.Seen(who, "192.0.2.1")
	w.Seen(matrix.Requester{Account: who.Account}, "192.0.2.2") // without a device: nothing to note
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if err := w.Run(ctx); err != context.Canceled {
		t.Errorf("run: got %v, want %v", err, context.Canceled)
	}
	if d, _, err := users.DeviceByID(w.ctx, w.db, who.Account, s.Device); err != nil || d.SeenIP != "192.0.2.1" {
		t.Errorf("stored: got %+v, %v, want 192.0.2.1", d, err)
	}
}

func TestWhatCouldNotBeWrittenIsTriedAgain(t *testing.T) {
	w := onSQLite(t)
	s, who := w.register("alice")
	w.Seen(who, "192.0.2.1")
	gone, cancel := context.WithCancel(w.ctx)
	cancel()
	lost := w.seen.take(w.nowMS())
	w.seen.putBack(append(lost, users.Sighting{User: "@gone:example.org"}))
	if err := w.flushSeen(gone); err != nil && err != context.Canceled {
		t.Errorf("flush for nobody: got %v", err)
	}
	wantCode(t, "flush", w.flushSeen(w.ctx), "")
	if d, _, err := users.DeviceByID(w.ctx, w.db, who.Account, s.Device); err != nil || d.SeenIP != "192.0.2.1" {
		t.Errorf("stored: got %+v, %v, want 192.0.2.1", d, err)
	}
}

func BenchmarkSeen(b *testing.B) {
	w := newWorld(b, storagetest.Open(b, storagetest.SQLite))
	_, who := w.register("alice")
	b.ReportAllocs()
	for b.Loop() {
		w.Seen(who, "192.0.2.1")
	}
}
