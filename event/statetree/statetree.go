// Package statetree keeps the state of rooms as persistent trees.
//
// A [Tree] is an immutable map from a [Key], the keyed hash of an event type
// and a state key, to the number of an event. Changing it gives a new tree
// that shares all but the nodes on the changed paths with the old one, so a
// room may keep the state before every event: about 500 bytes a change in a
// room of 50,000 members. Finding what differs between two trees costs as much
// as there are differences, whatever the size of the room.
//
// # Shape
//
// A tree is a prefix tree over the 64 bits of the keys, four bits a level,
// highest first. A subtree of up to 32 entries is one leaf, a larger one is an
// inner node with up to 16 children. The shape therefore depends on the
// content alone. The first four bits of a key are its class: 0 for
// m.room.member, 1 to 15 by a hash of any other type. So all members of a
// large room are exactly one subtree, the first child of the root, and
// [Store.Walk] reads some classes without touching the rest.
//
// Keys are hashed with a secret of the database ([Hasher]): nobody outside can
// choose state keys that degenerate a tree or collide. The tree never sees the
// full type and state key. Who loads an event that a tree named must compare
// them, and treat a mismatch (a collision of 60 bits) as a loud error.
//
// # Equality
//
// Each node carries a 128-bit keyed hash of its content, the sum of the hashes
// of its entries. Two states, and two subtrees, are known as equal although
// they were built independently of each other ([Store.Equal], [Store.Diff]).
//
// # Nodes
//
// Nodes are never changed and are named by integers from outside
// ([Settings.NextID]). They are read through a [Loader], many at once, level
// by level, and kept in the cache of the [Store], within its byte budget.
//
// [Store.Set] returns the new nodes for the caller to store. Until then they
// hang on the new [Tree] by pointers, not in the cache: the tree is usable at
// once, for reading and as the base of the next change, and a tree that is not
// wanted is simply forgotten. A tree of which only the number is left ([At])
// can be read only after its nodes were stored. When the nodes have been
// committed, [Store.Stored] hands them to the cache and cuts the pointers. If
// the commit failed, [Store.Dropped] makes Set refuse every tree that was
// built on those nodes, since its new nodes would name children that the
// database does not have.
//
// # Unknown members
//
// A server that joins a large room learns the members later. [Partial] begins
// such a state, with a [Hole] in the place of the members: a number that names
// what is unknown. Its root is a node of kind 3, an inner node at any size, of
// which the first child has those members that are known all the same: told
// with the join, or changed since. Reading any other member is [ErrUnknown],
// and the hash equals that of no known state. States that differ by later
// events share the hole.
//
// When the members are known, a tree of them alone is stored and told by
// [Settings.Filled]. From then on every tree with the hole reads as if it had
// them, with those of its own in their place, and no stored node changes. What
// is built on such a tree has no hole.
package statetree

import (
	"errors"
)

// NodeID names a node. 0 is the empty tree; all others are positive.
type NodeID int64

// Value is the number of an event. 0 stands for none; all others are positive.
type Value int64

// Change sets a key to a value, or deletes it if the value is 0.
type Change struct {
	Key   Key
	Value Value
}

// NewNode is a node to be stored: Data under the number ID.
type NewNode struct {
	ID   NodeID
	Data []byte

	node *node
}

// Tree is a handle on the state of a room: cheap to copy, never changed. The
// zero Tree is empty. Compare trees with [Store.Equal], not with ==.
type Tree struct{ root ref }

// At returns the tree whose root has the given number. Its nodes must have
// been stored.
func At(root NodeID) Tree { return Tree{ref{id: root}} }

// Root returns the number that [At] takes.
func (t Tree) Root() NodeID { return t.root.id }

var (
	// ErrMissing says that the loader does not have a node that a tree names.
	ErrMissing = errors.New("statetree: node is missing")
	// ErrCorrupt says that the stored bytes of a node are not what was written.
	ErrCorrupt = errors.New("statetree: node is corrupt")
	// ErrDropped says that a tree rests on new nodes that were never stored.
	ErrDropped = errors.New("statetree: tree rests on nodes that were dropped")
	// ErrUnknown says that a member lies in a hole that is not filled.
	ErrUnknown = errors.New("statetree: the members are not known yet")
	// ErrValue says that a change has a negative value.
	ErrValue = errors.New("statetree: value is negative")
)
