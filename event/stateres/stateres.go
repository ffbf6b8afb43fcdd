// Package stateres merges the states of a room: what the state is where
// branches of its history meet. It has the three algorithms that room versions
// name: v1, v2 and v2.1.
//
// [Resolve] takes states as trees and answers with the few changes that make
// one of them the merged state. It costs what is in conflict, not what the
// room holds: common state is never looked at, since the trees are compared
// and not the maps; and auth chains are never built.
//
// # Auth difference
//
// The auth difference of v2 is what is in the auth chain of some of the
// states, but not of all. A candidate, an event that authorises a conflicting
// one, is settled by looking the other way: at the events that cite it, newest
// first. If any of them is state that all have in common, the candidate and
// everything below is in every chain, and the walk ends there; so it does for
// nearly all of a room. Otherwise its states are those that hold what cites
// it, and those that what cites it is in the chain of. Each event is settled
// once and each citation followed once, so nothing that others can build makes
// this worse than linear in the room's auth graph.
//
// # What it needs
//
// This package reads through [AuthGraph] and [Loader], and does nothing else.
// [Graph] is an AuthGraph in memory. An AuthGraph holds accepted state events
// only: it is what keeps rejected events out of state. An event in conflict
// that the graph does not have counts as not there, and is named in
// [Result.Dropped]; what all states have in common is not looked at.
//
// A server keeps the Graph of an active room, appends each state event that it
// accepts, soft-failed ones and outliers too, and takes back with
// [Graph.Truncate] what it could not commit. If a room's graph is not in
// memory, an AuthGraph that reads the database answers a small merge with some
// hundred reads; it sets [Room.MaxVisits], and where that is exceeded the graph
// is loaded first.
//
// # Where the text leaves a choice
//
// Servers must agree, so where the specification is silent or is read
// otherwise by the servers that rooms are shared with (Synapse, and those
// built on Ruma), this package does as they do:
//
//   - v2: the events in the auth chain of a power event that are sorted with
//     it are those reached through the full conflicted set alone, and only
//     direct citations order them.
//   - v2: the create event is a power event; power levels and join rules are
//     so with an empty state key only.
//   - v1: each conflict of member events is resolved without those of others;
//     all become part of the state together, and so do join rules.
//   - v1: if nothing passes, the event that sorts first is taken.
//   - Events that were rejected do not come back.
package stateres

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
)

// MaxStates is the largest number of different states that are merged at once.
// An event has at most 20 prev events.
const MaxStates = 64

// Ref names a state event, and the place in the state that it fills.
type Ref struct {
	Num statetree.Value
	Key statetree.Key
}

// Node is an event of the auth graph.
type Node struct {
	Key statetree.Key
	// Order is greater than that of each of the event's auth events. Where
	// that is not known it is 0.
	Order int64
	Auth  []Ref // its auth events
}

// Cursor says how far the citations of an event have been read.
type Cursor int64

// AuthGraph is the graph of a room's accepted state events and their auth
// events. What was rejected is not in it, and neither is what is not state. It
// has no cycles: an event is accepted after its auth events are.
type AuthGraph interface {
	// Node returns an event of the graph; found is false if it has none of
	// that number. Node.Auth is appended to buf.
	Node(ctx context.Context, num statetree.Value, buf []Ref) (n Node, found bool, err error)
	// Citing fills page with events that have num among their auth events,
	// preferably the newest first, beginning where next left off: 0 is the
	// beginning, and 0 is returned at the end.
	Citing(ctx context.Context, num statetree.Value, from Cursor, page []Ref) (n int, next Cursor, err error)
}

// Loader reads events of the room.
type Loader interface {
	// Events returns the events of these numbers, at most [MaxLoad], in their
	// order. Each exists, or it is an error. Events are wanted as they were
	// accepted, without what later redactions took from them.
	Events(ctx context.Context, nums []statetree.Value) ([]*event.Event, error)
}

// MaxLoad is the largest number of events that are loaded at once.
const MaxLoad = 512

// Room is a room whose states are merged.
type Room struct {
	ID      matrix.RoomID
	Version *event.Version
	Create  statetree.Value // the create event
	Trees   *statetree.Store
	Graph   AuthGraph
	Loader  Loader
	// MaxVisits bounds the citations that are followed, if it is not 0; more
	// is ErrBudget. A graph whose every step reads a database wants a bound;
	// a [Graph] bounds the work by its size.
	MaxVisits int
}

// Result is the merged state: Base with Changes made.
type Result struct {
	// Base is that of the states which differs least from the merged one.
	Base    statetree.Tree
	Changes []statetree.Change // ascending by key; none if Base is the merged state
	Dropped []statetree.Value  // events in the states that the graph does not have

	Conflicts int // keys in conflict
	Replayed  int // events that were checked anew
	Visits    int // citations followed
}

var (
	// ErrBudget says that merging takes more steps than Room.MaxVisits.
	ErrBudget = errors.New("stateres: the auth graph is too large for the bound that was set")
	// ErrTooManyStates says that more than MaxStates different states were given.
	ErrTooManyStates = fmt.Errorf("stateres: more than %d different states", MaxStates)
	// ErrMismatch says that states, graph and events do not tell the same:
	// an event of another room or of another place in the state than it is
	// filed under. It is a fault of this server, or a hash collision.
	ErrMismatch = errors.New("stateres: an event is not what the state says")
)

// Resolve merges states of a room. Their order does not matter.
// https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution
func Resolve(ctx context.Context, room Room, states []statetree.Tree) (Result, error) {
	distinct, err := distinctStates(ctx, room.Trees, states)
	if err != nil || len(distinct) == 0 {
		return Result{}, err
	}
	if len(distinct) == 1 {
		return Result{Base: distinct[0]}, nil
	}
	r := newResolution(room, distinct)
	if err := r.findConflicts(ctx); err != nil {
		return Result{}, fmt.Errorf("compare states of %s: %w", room.ID, err)
	}
	switch room.Version.StateResolution {
	case event.StateResolutionV1:
		err = r.resolveV1(ctx)
	case event.StateResolutionV2, event.StateResolutionV21:
		err = r.resolveV2(ctx)
	default:
		panic(fmt.Sprintf("stateres: unknown algorithm %d", room.Version.StateResolution))
	}
	if err != nil {
		return Result{}, fmt.Errorf("merge %d states of %s: %w", len(distinct), room.ID, err)
	}
	return r.result(), nil
}

// distinctStates returns the states, those of equal content once.
func distinctStates(ctx context.Context, trees *statetree.Store, states []statetree.Tree) ([]statetree.Tree, error) {
	seen := make(map[statetree.Hash]bool, len(states))
	var distinct []statetree.Tree
	for _, s := range states {
		h, err := trees.Hash(ctx, s)
		if err != nil {
			return nil, err
		}
		if seen[h] {
			continue
		}
		if len(distinct) == MaxStates {
			return nil, ErrTooManyStates
		}
		seen[h] = true
		distinct = append(distinct, s)
	}
	return distinct, nil
}

// resolution is one merge. It is used by one goroutine.
type resolution struct {
	room   Room
	hasher statetree.Hasher
	states []statetree.Tree
	full   mask // of all states

	conflicts table[statetree.Key, conflict]
	partial   []statetree.Value                // of each conflict: resolved so far, 0: nothing
	disputed  table[statetree.Value, disputed] // ascending
	base      base                             // what the first state holds, and so all, where there is no conflict
	events    held
	levels    levelCache
	agreed    table[statetree.Key, agreed] // other places that checks look at

	added []statetree.Change // where no state has anything

	keys     authKeys
	dropped  []statetree.Value
	visits   int
	replayed int

	// Buffers, so that what there is much of is not allocated one by one.
	refs      []Ref       // for Node
	spare     []candidate // not given to a conflict yet
	questions []question  // of a part of what is applied
	standIns  []Ref       // their auth events
	nums      []statetree.Value
	loaded    []*event.Event
}

// authKeys are the places in the state that the algorithms name.
type authKeys struct{ create, powerLevels, joinRules statetree.Key }

// keyOf returns the key of a piece of state, without hashing for those that
// are asked for with every event.
func (r *resolution) keyOf(k event.Key) statetree.Key {
	switch k {
	case createKey:
		return r.keys.create
	case powerLevelsKey:
		return r.keys.powerLevels
	case joinRulesKey:
		return r.keys.joinRules
	}
	return r.hasher.Key(k)
}

func newResolution(room Room, states []statetree.Tree) *resolution {
	h := room.Trees.Hasher()
	return &resolution{
		room: room, hasher: h, states: states, full: mask(1)<<len(states) - 1,
		conflicts: newTable[statetree.Key, conflict](0),
		disputed:  newTable[statetree.Value, disputed](0),
		base:      newBase(room.Trees, states[0]),
		events:    newHeld(room),
		agreed:    newTable[statetree.Key, agreed](0),
		keys: authKeys{
			create: h.Key(createKey), powerLevels: h.Key(powerLevelsKey), joinRules: h.Key(joinRulesKey),
		},
	}
}

// node reads an event of the graph. What it returns is good until the next
// call.
func (r *resolution) node(ctx context.Context, num statetree.Value) (Node, bool, error) {
	n, found, err := r.room.Graph.Node(ctx, num, r.refs[:0])
	r.refs = n.Auth
	if err != nil {
		return n, found, fmt.Errorf("read the auth events of event %d: %w", num, err)
	}
	return n, found, r.visit(ctx, 1+len(n.Auth))
}

// visit counts steps in the graph.
func (r *resolution) visit(ctx context.Context, n int) error {
	const lookUpEvery = 1024
	before := r.visits / lookUpEvery
	r.visits += n
	if r.room.MaxVisits > 0 && r.visits > r.room.MaxVisits {
		return ErrBudget
	}
	if r.visits/lookUpEvery != before {
		return ctx.Err()
	}
	return nil
}
