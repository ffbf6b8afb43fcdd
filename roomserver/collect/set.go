package collect

import (
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
)

// A nodeSet is a set of nodes of which some are marked. It takes 8 bytes and a bit for each.
type nodeSet struct {
	ids    []statetree.NodeID // ascending
	marked []uint64           // bits, by index in ids
}

// newNodeSet takes nodes over, which ascend.
func newNodeSet(ids []statetree.NodeID) *nodeSet {
	return &nodeSet{ids: ids, marked: make([]uint64, (len(ids)+63)/64)}
}

// lowest returns the lowest of the nodes, of which there is one at least, and highest the highest.
func (s *nodeSet) lowest() statetree.NodeID  { return s.ids[0] }
func (s *nodeSet) highest() statetree.NodeID { return s.ids[len(s.ids)-1] }

// has says whether a node is in the set, and whether it is marked.
func (s *nodeSet) has(id statetree.NodeID) (in, marked bool) {
	i, in := slices.BinarySearch(s.ids, id)
	return in, in && s.marked[i/64]&(1<<(i%64)) != 0
}

// mark marks a node. It says whether the node is in the set.
func (s *nodeSet) mark(id statetree.NodeID) bool {
	i, in := slices.BinarySearch(s.ids, id)
	if in {
		s.marked[i/64] |= 1 << (i % 64)
	}
	return in
}

// split returns the nodes that are marked and those that are not, in their order.
func (s *nodeSet) split() (marked, rest []statetree.NodeID) {
	for i, id := range s.ids {
		if s.marked[i/64]&(1<<(i%64)) != 0 {
			marked = append(marked, id)
		} else {
			rest = append(rest, id)
		}
	}
	return marked, rest
}
