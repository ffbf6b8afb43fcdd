package statetree

// Children returns the numbers of the nodes that a stored node names. Who looks for nodes that no tree needs reads them so,
// without filling the cache of a [Store].
func (h Hasher) Children(id NodeID, data []byte) ([]NodeID, error) {
	n, err := h.decode(id, data)
	if err != nil {
		return nil, err
	}
	return n.named(), nil
}

// Children returns the numbers of the nodes that the node names.
func (n NewNode) Children() []NodeID { return n.node.named() }

// named are the numbers of a node's children; nil of a leaf.
func (n *node) named() []NodeID {
	if n.children == nil {
		return nil
	}
	named := make([]NodeID, 0, fanOut)
	for _, child := range n.children {
		if child != 0 {
			named = append(named, child)
		}
	}
	return named
}

// Forget takes nodes out of the cache that were deleted. A tree that has one of them is none any more, and must not be
// built on.
func (s *Store) Forget(ids []NodeID) {
	for _, id := range ids {
		s.cache.drop(id)
	}
}
