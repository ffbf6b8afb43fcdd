package owner

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A Step takes a room from one tip to the next. It reads, and keeps what is to be stored; nothing is
// changed outside of it before it is launched.
type Step struct {
	owners *Owners
	room   rooms.Room
	tip    tip
	nowMS  int64
	source source

	fresh    map[int64]placed // what others must not yet see: new events, redacted forms
	events   []rooms.NewEvent
	nodes    []statetree.NewNode
	redacted []*rooms.Event                      // the new forms
	graph    *authGraph                          // nil if the room is new
	branches branches                            // the current state is not resolved yet
	effort   int                                 // places and events that were looked at to resolve states
	looks    int                                 // times it was resolved to judge an event by it
	merged   map[statetree.NodeID]statetree.Tree // with a branch, by its root: of the room as it stands now
	vain     map[matrix.ServerName]int           // events of a server that were not allowed by that either
	hints    hints                               // events that are likely to be wanted
	ofOthers bool                                // it took events of other servers
	arrivals int64                               // flights.arrivals, as it set it when it was launched; 0 if it did not
	gaps     gapsSeen

	footing *footing       // what events of our own follow; nil: the forward extremities
	unseen  []*event.Event // events of our own that the policy server has not seen
	asked   policy.Server  // whose signature they want

	settled []*rooms.Event     // that were set aside, and have found their place
	asides  []rooms.Membership // what has come of that

	byID map[matrix.EventID]*rooms.Event // those not committed yet; nil until they are looked up

	created   bool                    // the room is new
	aliases   []rooms.Alias           // made with it
	begins    *rooms.PartialJoin      // the room is partial from now on
	whole     *rooms.EndOfPartial     // or no longer:
	followed  map[matrix.EventID]bool // then, what events that were checked again follow
	turned    turned                  // and which of them are in no timeline any more
	doubt     *rooms.Doubt            // whether nodes are needed that events have had until now; nil if there is none
	named     *rooms.Doubt            // about nodes that the step names; nil if there was none
	relist    bool                    // the directory entry is out of date
	directory *rooms.Published
}

// An arrival is an event on its way into the room, with what the stations found out about it.
type arrival struct {
	event   *event.Event
	stored  *rooms.Event // as it was stored before, without its place; nil if it is new
	kind    rooms.Kind
	order   rooms.Order // of a backfilled event
	txn     SentAs
	auth    []*rooms.Event   // its auth events
	lacks   []matrix.EventID // what is missing before it
	fills   bool             // other events lack this one
	late    bool             // and one of these is in the timeline
	unknown bool             // the state before it is not known
	before  statetree.Tree   // the state before it
}

// branches says how far the current state of a step is behind its forward extremities. While events follow
// each other in one row, it moves with each. Where they do not, it is resolved when somebody needs to know
// it, and at the end of the step: once for all events that came together.
type branches struct {
	open  bool
	since int                       // the event of the step from which on it is behind
	moved map[statetree.Key]bool    // where it may be another when it is resolved
	roots map[statetree.NodeID]bool // states of which it is known what they move
}

// hints is the part that a step takes. They are final but for a place that is added, which only what comes from other
// servers can do.
type hints struct {
	events    map[matrix.EventID]*rooms.Event
	looked    map[matrix.EventID]bool // IDs that were looked for; those that events lacks were not here
	elsewhere map[matrix.EventID]bool // IDs that are of events of other rooms
	asOf      int64                   // flights.arrivals when that was read
	final     bool                    // nobody else works on the room: they need not be read anew

	policy   int64                     // number of the event that names the policy server that was asked; 0: there is none
	unwanted map[matrix.EventID]string // what it does not recommend, and why
}

// gapsSeen is what a step knows of the gaps that are of some events.
type gapsSeen struct {
	looked map[matrix.EventID]bool
	stored map[matrix.EventID]bool // true: the gap is in the timeline
	flying []placed                // what was on its way to the database when stored was read
}

// A footing is what the events of a task stand on, and what of them the policy server has signed.
type footing struct {
	follows []placed // as forward extremities
	nowMS   int64
	signed  map[matrix.EventID]*event.Event
}

func (s *Owners) newStep(room rooms.Room, t tip, fl *flights) *Step {
	fresh := make(map[int64]placed, 2)
	return &Step{
		owners: s, room: room, tip: t, nowMS: s.now().UnixMilli(), fresh: fresh,
		source: source{fresh: fresh, flights: fl},
	}
}

// A Draft is an event that a user of this server wants in the room.
type Draft struct {
	Type     string
	StateKey *string
	Sender   matrix.UserID
	Content  []byte // a JSON object
	Redacts  matrix.EventID
	TS       int64 // origin_server_ts in ms; 0: now
	Txn      SentAs
	Vouched  bool // of a join: that the user had no membership, if none is known, another server has said
}

// authState is the part of a state by which an event is judged.
type authState struct {
	selected []*rooms.Event // the auth events
	create   *rooms.Event   // of the room, whether or not it is selected
}

// state is the auth state as the rules want it.
func (a authState) state(key event.Key) *event.Event {
	if key == event.CreateKey {
		return a.create.Plain()
	}
	for _, ev := range a.selected {
		if ev.Type == key.Type && *ev.StateKey == key.StateKey {
			return ev.Event
		}
	}
	return nil
}

// Forbidden tells the sender why its event was refused.
func Forbidden(err error) error {
	var rejection *auth.Rejection
	if errors.As(err, &rejection) {
		return matrix.Errorf(matrix.Forbidden, "%s (authorisation rule %s)", rejection.Reason, rejection.Rule)
	}
	return err
}

// change is what a state event changes.
func (st *Step) change(ev *rooms.Event) statetree.Change {
	return statetree.Change{Key: st.owners.cache.Hasher.Key(ev.StateID()), Value: statetree.Value(ev.Num)}
}

// set makes changes to a state, and keeps the new nodes to be stored.
func (st *Step) set(ctx context.Context, tree statetree.Tree, changes ...statetree.Change) (statetree.Tree, error) {
	tree, nodes, err := st.owners.cache.Trees.Set(ctx, tree, changes)
	if err != nil {
		return tree, fmt.Errorf("change the state of %s: %w", st.room.ID, err)
	}
	st.nodes = append(st.nodes, nodes...)
	return tree, nil
}

// lookupIn returns the events of a state at these keys, nil where there is none.
func (st *Step) lookupIn(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	if tree.Root() == st.tip.state.Root() {
		return st.Lookup(ctx, keys...)
	}
	return st.stateEvents(ctx, tree, keys)
}

// Lookup returns the state events at these keys, nil where there is none.
func (st *Step) Lookup(ctx context.Context, keys ...event.Key) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(keys))
	var others []event.Key
	for i, key := range keys {
		switch key {
		case event.CreateKey:
			found[i] = st.tip.create
		case event.PowerLevelsKey:
			found[i] = st.tip.power
		case event.JoinRulesKey:
			found[i] = st.tip.joinRules
		default:
			others = append(others, key)
		}
	}
	if len(others) == 0 {
		return found, nil
	}
	read, err := st.stateEvents(ctx, st.tip.state, others)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if key != event.CreateKey && key != event.PowerLevelsKey && key != event.JoinRulesKey {
			found[i], read = read[0], read[1:]
		}
	}
	return found, nil
}

// Member returns the membership of a user, empty if there never was one.
func (st *Step) Member(ctx context.Context, user matrix.UserID) (event.Membership, *rooms.Event, error) {
	found, err := st.Lookup(ctx, event.MemberKey(user))
	if err != nil || found[0] == nil {
		return "", nil, err
	}
	return found[0].Membership(), found[0], nil
}

// MustBeJoined refuses who is not in the room.
func (st *Step) MustBeJoined(ctx context.Context, user matrix.UserID) error {
	membership, _, err := st.Member(ctx, user)
	if err == nil && membership != event.Join {
		return matrix.Errorf(matrix.Forbidden, "%s is not in %s", user, st.room.ID)
	}
	return err
}

// SentAs is what is stored of a transaction with its event.
type SentAs struct {
	Key    int64 // 0: none
	Device matrix.DeviceID
	ID     string
}

// eventsOf returns events of the room by number, in the order asked, nil for 0. Each other must exist.
func (st *Step) eventsOf(ctx context.Context, nums []int64) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(nums))
	for i, num := range nums {
		if ev, ok := st.source.uncommitted(num); ok {
			found[i] = ev.Event
		}
	}
	if err := st.owners.cache.Fill(ctx, st.room, nums, found); err != nil {
		return nil, err
	}
	return found, nil
}

// stateEvents returns the events of a state at these keys, nil where there is none. The error is statetree.ErrUnknown if one
// of them is a member that is not known.
func (st *Step) stateEvents(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	found, at, err := st.eventsAt(ctx, tree, keys)
	if err != nil {
		return nil, err
	}
	return found, at.CheckKnown(keys, found)
}

// knownIn is stateEvents, but for members that are not known, which are nil.
func (st *Step) knownIn(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	found, at, err := st.eventsAt(ctx, tree, keys)
	if err != nil {
		return nil, err
	}
	return found, at.Check(keys, found)
}

func (st *Step) eventsAt(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, committed.Places, error) {
	at, err := st.owners.cache.Find(ctx, st.room, tree, keys)
	if err != nil {
		return nil, at, err
	}
	found, err := st.eventsOf(ctx, at.Nums)
	return found, at, err
}

// place adds to an event its states.
func (st *Step) place(ev *rooms.Event) placed {
	if known, ok := st.source.uncommitted(ev.Num); ok {
		known.Event = ev
		return known
	}
	return storedPlaced(ev)
}

// follows returns the events that an event of our own follows.
func (st *Step) follows() []placed {
	tips := st.tip.extremities
	if st.footing != nil {
		tips = st.footing.follows
	}
	return tips[max(0, len(tips)-event.MaxPrevEvents):]
}

// unlessUnknown drops the error that a member is not known.
func unlessUnknown(err error) error {
	if errors.Is(err, statetree.ErrUnknown) {
		return nil
	}
	return err
}
