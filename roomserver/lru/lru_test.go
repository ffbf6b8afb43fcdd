package lru

import "testing"

func TestLRU(t *testing.T) {
	c := New[int, string](10)
	c.Add(1, "one", 4)
	c.Add(2, "two", 4)
	c.Get(1)
	c.Add(3, "three", 4)
	if _, ok := c.Get(2); ok {
		t.Error("2 was used least recently, and stayed")
	}
	c.AddNew(1, "other", 1, func() bool { return true })
	if got, _ := c.Get(1); got != "one" {
		t.Errorf("addNew over 1: got %q, want one", got)
	}
	c.AddNew(2, "late", 1, func() bool { return false })
	if got, ok := c.Get(2); ok {
		t.Errorf("2 was not wanted: got %q", got)
	}
	dropped := make(chan struct{})
	c.AddNew(2, "old", 1, func() bool {
		go func() { c.Drop(2); close(dropped) }() // after it was added, not before
		return true
	})
	<-dropped
	if got, ok := c.Get(2); ok {
		t.Errorf("2 was dropped when it was out of date: got %q", got)
	}
	c.Add(1, "uno", 5)
	if got, _ := c.Get(1); got != "uno" || c.cost != 9 {
		t.Errorf("got %q at cost %d, want uno at 9", got, c.cost)
	}
	c.Add(4, "huge", 100)
	if got, ok := c.Get(4); !ok || got != "huge" || c.order.Len() != 1 {
		t.Errorf("the last entry must stay, alone: %q, %d entries", got, c.order.Len())
	}
}
