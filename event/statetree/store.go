package statetree

import (
	"context"
	"fmt"
	"slices"
)

// Loader reads stored nodes. It is called by many goroutines at once.
type Loader interface {
	// Nodes calls found with the bytes of each of the nodes, in any order,
	// and leaves out those that do not exist. There are at most [MaxLoad]
	// numbers, ascending and without duplicates. The bytes may be reused when
	// found has returned; an error of found is returned as it is.
	Nodes(ctx context.Context, ids []NodeID, found func(id NodeID, data []byte) error) error
}

// MaxLoad is the largest number of nodes that are loaded, and held by a walk,
// at once.
const MaxLoad = 1024

// Settings are the parts of a [Store]. All but Filled are required.
type Settings struct {
	Hasher Hasher
	Loader Loader
	// NextID returns a positive number that no node has had. It is called by
	// many goroutines at once.
	NextID func() NodeID
	// Filled returns the root of the tree of just the members that belong in a
	// hole, or false if they are not known yet. It is called by many goroutines
	// at once, and may be nil if there are no holes.
	Filled func(ctx context.Context, hole Hole) (members NodeID, known bool, err error)
	// CacheBytes is about how much memory the nodes in the cache may take.
	CacheBytes int64
}

// Store reads and makes trees. One Store serves all rooms of a database and
// may be used by many goroutines at once.
type Store struct {
	hasher Hasher
	loader Loader
	nextID func() NodeID
	cache  *cache
	holes  holes
}

// New returns a Store with an empty cache.
func New(s Settings) *Store {
	return &Store{hasher: s.Hasher, loader: s.Loader, nextID: s.NextID, cache: newCache(s.CacheBytes), holes: holes{ask: s.Filled}}
}

// Hasher returns the hasher that makes this store's keys.
func (s *Store) Hasher() Hasher { return s.hasher }

// CacheSize returns the bytes that the cache takes, about, and the number of
// nodes in it.
func (s *Store) CacheSize() (bytes int64, nodes int) { return s.cache.size() }

// at returns the node of one ref.
func (s *Store) at(ctx context.Context, r ref) (*node, error) {
	one := [1]ref{r}
	err := s.load(ctx, one[:])
	return one[0].node, err
}

// load fills in the nodes of refs. A root with a hole is given without it, if
// that is filled.
func (s *Store) load(ctx context.Context, refs []ref) error {
	if err := s.loadStored(ctx, refs); err != nil {
		return err
	}
	for i := range refs {
		if n := refs[i].node; n.hole != 0 {
			whole, err := s.fill(ctx, n)
			if err != nil {
				return err
			}
			refs[i].node = whole
		}
	}
	return nil
}

// loadStored fills in the nodes of refs as they are stored: those not at hand
// from the cache, and the rest, all together, from the loader.
func (s *Store) loadStored(ctx context.Context, refs []ref) error {
	var missing []NodeID
	for i := range refs {
		r := &refs[i]
		switch {
		case r.node != nil:
		case r.id == 0:
			r.node = empty
		default:
			if r.node = s.cache.get(r.id); r.node == nil {
				missing = append(missing, r.id)
			}
		}
	}
	if missing == nil {
		return ctx.Err()
	}
	nodes, err := s.fetch(ctx, missing)
	if err != nil {
		return err
	}
	for i := range refs {
		if refs[i].node == nil {
			refs[i].node = nodes[refs[i].id]
		}
	}
	return nil
}

// fetch asks the loader for nodes and puts them in the cache. Two goroutines
// that miss the same node both ask for it; that is rare and harmless.
func (s *Store) fetch(ctx context.Context, ids []NodeID) (map[NodeID]*node, error) {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	nodes := make(map[NodeID]*node, len(ids))
	found := func(id NodeID, data []byte) error {
		n, err := s.hasher.decode(id, data)
		if err != nil {
			return err
		}
		nodes[id] = n
		s.cache.add(n)
		return nil
	}
	for some := range slices.Chunk(ids, MaxLoad) {
		if err := s.loader.Nodes(ctx, some, found); err != nil {
			return nil, fmt.Errorf("load %d state nodes: %w", len(some), err)
		}
	}
	for _, id := range ids {
		if nodes[id] == nil {
			return nil, fmt.Errorf("%w: %d", ErrMissing, id)
		}
	}
	return nodes, nil
}
