package accounts

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestExpiring(t *testing.T) {
	start := time.UnixMilli(0)
	e := newExpiring[int](3, time.Minute)
	e.add("a", 1, start)
	if v, ok := e.get("a", start.Add(59*time.Second)); !ok || v != 1 {
		t.Errorf("before its end: got %d, %v, want 1", v, ok)
	}
	if _, ok := e.get("a", start.Add(time.Minute)); ok {
		t.Error("at its end the entry is still there")
	}
	if _, ok := e.take("a", start); !ok {
		t.Error("take: the entry is not there")
	}
	if _, ok := e.take("a", start); ok {
		t.Error("take gave an entry twice")
	}
	if e.change("a", start, func(int) (int, bool) { return 2, true }) {
		t.Error("change found an entry that was taken")
	}
}

func TestExpiringChangeKeepsTheEnd(t *testing.T) {
	start := time.UnixMilli(0)
	e := newExpiring[int](3, time.Minute)
	e.add("a", 1, start)
	e.change("a", start.Add(30*time.Second), func(v int) (int, bool) { return v + 1, true })
	if v, ok := e.get("a", start.Add(59*time.Second)); !ok || v != 2 {
		t.Errorf("changed: got %d, %v, want 2", v, ok)
	}
	if _, ok := e.get("a", start.Add(60*time.Second)); ok {
		t.Error("a change made the entry live longer")
	}
	e.change("a", start, func(int) (int, bool) { return 0, false })
	if _, ok := e.get("a", start); ok {
		t.Error("an entry that was not kept is still there")
	}
}

func TestExpiringDropsTheOldestWhenFull(t *testing.T) {
	start := time.UnixMilli(0)
	e := newExpiring[int](3, time.Minute)
	for i := range 10_000 {
		e.add(fmt.Sprint(i), i, start)
		if len(e.entries) > 3 || len(e.order) > 3 {
			t.Fatalf("after %d: got %d entries, %d keys, want at most 3", i, len(e.entries), len(e.order))
		}
	}
	for i, want := range map[int]bool{9996: false, 9997: true, 9999: true} {
		if _, ok := e.get(fmt.Sprint(i), start); ok != want {
			t.Errorf("entry %d: got %v, want %v", i, ok, want)
		}
	}
	e.add("late", 0, start.Add(time.Hour))
	if len(e.entries) != 1 {
		t.Errorf("after all expired: got %d entries, want 1", len(e.entries))
	}
}

func TestExpiringGivesToOneOnly(t *testing.T) {
	e := newExpiring[int](3, time.Minute)
	now := time.UnixMilli(0)
	e.add("a", 1, now)
	var wg sync.WaitGroup
	got := make(chan bool, 50)
	for range 50 {
		wg.Go(func() {
			_, ok := e.take("a", now)
			got <- ok
		})
	}
	wg.Wait()
	close(got)
	n := 0
	for ok := range got {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("takers that got the entry: %d, want 1", n)
	}
}
