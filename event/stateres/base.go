package stateres

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
)

// base reads one tree, key by key at first and whole when that is cheaper. What
// the tree does not know counts as not there.
type base struct {
	trees *statetree.Store
	tree  statetree.Tree
	known table[statetree.Key, statetree.Value]
	whole bool
	reads int
	limit int // of reads, then it is read whole; 0: not known yet
}

const (
	minReads     = 256
	readsPerWalk = 8 // walking over so many entries costs as much as looking up one
)

func newBase(trees *statetree.Store, tree statetree.Tree) base {
	return base{trees: trees, tree: tree, known: newTable[statetree.Key, statetree.Value](0)}
}

func (b *base) value(ctx context.Context, k statetree.Key) (statetree.Value, error) {
	if id, ok := b.known.find(k); ok {
		return *b.known.value(id), nil
	}
	if !b.whole && b.reads >= b.limit {
		if err := b.grow(ctx); err != nil {
			return 0, err
		}
		return b.value(ctx, k)
	}
	if b.whole {
		return 0, nil
	}
	b.reads++
	v, err := b.trees.Get(ctx, b.tree, k)
	if errors.Is(err, statetree.ErrUnknown) {
		err = nil
	}
	if err == nil {
		*b.known.of(k) = v
	}
	return v, err
}

// grow sets the limit, or reads the whole tree if it is reached.
func (b *base) grow(ctx context.Context) error {
	if b.limit == 0 {
		n, err := b.trees.Len(ctx, b.tree)
		b.limit = max(minReads, n/readsPerWalk)
		return err
	}
	known := newTable[statetree.Key, statetree.Value](b.limit * readsPerWalk)
	err := b.trees.Walk(ctx, b.tree, statetree.All, func(k statetree.Key, v statetree.Value) error {
		*known.of(k) = v
		return nil
	})
	if errors.Is(err, statetree.ErrUnknown) {
		b.limit = math.MaxInt
		return nil
	}
	b.known, b.whole = known, true
	return err
}

// warm reads the values of many keys at once.
func (b *base) warm(ctx context.Context, keys []statetree.Key) error {
	if b.whole {
		return nil
	}
	keys = slices.DeleteFunc(keys, func(k statetree.Key) bool { _, ok := b.known.find(k); return ok })
	values, _, err := b.trees.GetKnown(ctx, b.tree, keys)
	for i := range values {
		*b.known.of(keys[i]) = values[i]
	}
	return err
}
