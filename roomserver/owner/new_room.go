package owner

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A JoinAnswer is what a resident server gives to one of ours that joins: its join event as it now
// stands, the state before it, and the auth chain of both. All have passed event.Parse and the check of
// their signatures.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
type JoinAnswer struct {
	Room      matrix.RoomID
	Version   *event.Version
	Join      *event.Event
	State     []*event.Event // all of it, or all but members
	AuthChain []*event.Event

	MembersOmitted bool                // of the members, only some are in State
	Servers        []matrix.ServerName // then those in the room, the one that answered first
}

// MaxRows is how many rows of a join are stored at once, so that other rooms have their turn between.
const MaxRows = 500

// check holds an answer against itself, and returns the create event.
func (in JoinAnswer) check(us matrix.ServerName) (create *event.Event, err error) {
	if in.Join.Membership() != event.Join || in.Join.Target().Server() != us || !in.has(in.Join) {
		return nil, in.wrong("%s is no join of one of ours to it", in.Join.ID)
	}
	keys := make(map[event.Key]bool, len(in.State))
	for _, ev := range in.State {
		if !ev.IsState() || keys[ev.StateID()] {
			return nil, in.wrong("%s has no place in the state, or another has it", ev.ID)
		}
		keys[ev.StateID()] = true
		if ev.StateID() == event.CreateKey {
			create = ev
		}
	}
	if create == nil {
		return nil, in.wrong("there is no create event")
	}
	for _, ev := range slices.Concat(in.State, in.AuthChain) {
		switch {
		case !in.has(ev):
			return nil, in.wrong("%s is of room %s", ev.ID, ev.RoomID)
		case ev.Type == event.TypeCreate && ev.ID != create.ID:
			return nil, in.wrong("there are two create events")
		}
	}
	return create, nil
}

// has says whether an event is of the room.
func (in JoinAnswer) has(ev *event.Event) bool {
	return ev.RoomID == in.Room && ev.Version == in.Version
}

func (in JoinAnswer) wrong(format string, args ...any) error {
	return matrix.Errorf(matrix.Unknown, "the answer to the join of %s is wrong: %s", in.Room, fmt.Sprintf(format, args...)).WithStatus(502)
}

// An Adoption is a room on its way into this server, with the join of its first user here. Nobody else works on the room: it
// has no owner yet.
type Adoption struct {
	JoinAnswer
	owners *Owners
	room   rooms.Room
	isNew  bool
	create *event.Event
	hints  hints
	hole   statetree.Hole // if members are omitted
}

// NewAdoption begins the adoption of a room by an answer to a join, if that makes sense.
func (s *Owners) NewAdoption(in JoinAnswer) (*Adoption, error) {
	create, err := in.check(s.name)
	if err != nil {
		return nil, err
	}
	return &Adoption{JoinAnswer: in, owners: s, create: create}, nil
}

// Find looks the room up, and says whether this server has been in it. One that it has not been in is taken up with Run, the
// other with Rejoin.
func (a *Adoption) Find(ctx context.Context) (lived bool, err error) {
	room, known, err := rooms.ByID(ctx, a.owners.db, a.Room)
	if err != nil {
		return false, fmt.Errorf("find room %s: %w", a.Room, err)
	}
	if a.room, a.isNew = room, !known; a.isNew {
		a.room = rooms.Room{Num: a.owners.db.NextNumber(), ID: a.Room, Version: a.Version}
	}
	_, lived, err = rooms.HeadOf(ctx, a.owners.db, a.room.Num)
	switch {
	case err != nil:
		return false, fmt.Errorf("find room %s: %w", a.Room, err)
	case lived && a.MembersOmitted:
		return true, a.wrong("of a room that this server has been in, all members are needed")
	}
	return lived, nil
}

// Run takes the room up. State that its own auth events do not allow is left out; if the join itself is not allowed by what
// is left, nothing of the room is shown.
//
// The state is stored in chunks before the room is there for anybody, which it is with the join event. If members are
// omitted, the room is partial from then on.
func (a *Adoption) Run(ctx context.Context) (err error) {
	if a.room.Version != a.Version {
		if a.room, err = a.owners.BeginAnew(ctx, rooms.Room{Num: a.room.Num, ID: a.room.ID, Version: a.Version}); err != nil {
			return err
		}
	}
	if err = a.storeEvents(ctx); err != nil {
		return err
	}
	if a.MembersOmitted {
		a.hole = statetree.Hole(a.owners.db.NextNumber())
	}
	defer a.owners.unnamed.begin(a.room.Num)()
	changes, accepted := a.state()
	tree, doubt, err := a.storeTree(ctx, changes)
	if err != nil {
		return err
	}
	t := a.tip(tree, accepted)
	st := a.step(*t)
	in := arrival{event: a.Join, kind: rooms.Live, before: tree, lacks: a.Join.PrevEvents}
	if had := a.hints.events[a.Join.ID]; had != nil {
		in.stored = had
	}
	if in.auth, err = st.authEvents(ctx, a.Join); err != nil {
		return a.refused(err)
	}
	why, err := st.judge(ctx, &in)
	if err != nil {
		return err
	}
	if why != nil {
		return a.refused(why)
	}
	came, err := a.storeMembers(ctx, accepted)
	if err != nil {
		return err
	}
	join, err := st.store(ctx, in)
	if err != nil {
		return err
	}
	if len(came) > 0 {
		last := &st.events[len(st.events)-1]
		last.Then = &rooms.Move{RoomNum: a.room.Num, Room: a.Room, Root: st.tip.state.Root(), Members: came}
	}
	st.named = doubt
	if a.MembersOmitted {
		st.beginPartial(rooms.PartialJoin{RoomNum: a.room.Num, Hole: a.hole, Join: join.Num, Servers: a.Servers})
		defer a.owners.partials.Begin()()
	}
	return a.commit(ctx, st)
}

func (a *Adoption) refused(why error) error {
	return matrix.Errorf(matrix.Forbidden, "the join to %s is not allowed by the state that came with it: %v", a.Room, why)
}

// step is a step of the room to be.
func (a *Adoption) step(t tip) *Step {
	st := a.owners.newStep(a.room, t, nil)
	st.hints = a.hints
	return st
}

// commit stores a step of the room to be, and the room itself with the first.
func (a *Adoption) commit(ctx context.Context, st *Step) error {
	st.created = a.isNew
	first, err := a.owners.db.Commit(ctx, st.write(a.owners.generations.Add(1)))
	if err != nil {
		a.owners.cache.Trees.Dropped(st.nodes)
		return fmt.Errorf("store the join of %s: %w", a.Room, err)
	}
	a.owners.cache.Trees.Stored(st.nodes)
	a.owners.remember(st, first)
	a.isNew = false
	return nil
}

// storeEvents stores the events of the state and its auth chain that are not here, each after those that
// authorise it, as outliers.
func (a *Adoption) storeEvents(ctx context.Context) error {
	a.hints = hints{
		events: make(map[matrix.EventID]*rooms.Event), looked: make(map[matrix.EventID]bool),
		elsewhere: make(map[matrix.EventID]bool), final: true,
	}
	events := event.AuthOrder(slices.Concat([]*event.Event{a.create}, a.AuthChain, a.State))
	if err := a.look(ctx, append(slices.Clone(events), a.Join)); err != nil {
		return err
	}
	t := tip{create: &rooms.Event{Event: a.create}}
	for some := range slices.Chunk(events, MaxRows) {
		st := a.step(t)
		if err := st.AddOutliers(ctx, some); err != nil {
			return err
		}
		if len(st.events) == 0 {
			continue
		}
		if err := a.commit(ctx, st); err != nil {
			return err
		}
		for _, ev := range st.events {
			a.hints.events[ev.ID] = ev.Event
		}
	}
	return nil
}

// look finds out which of the events, and of those that they name, are stored.
func (a *Adoption) look(ctx context.Context, events []*event.Event) error {
	for _, ev := range events {
		a.hints.looked[ev.ID] = true
		for _, id := range ev.AuthEvents {
			a.hints.looked[id] = true
		}
	}
	if a.isNew {
		return nil
	}
	ids := make([]matrix.EventID, 0, len(a.hints.looked))
	for id := range a.hints.looked {
		ids = append(ids, id)
	}
	for some := range slices.Chunk(ids, committed.MaxPerRead) {
		found, err := rooms.EventsByID(ctx, a.owners.db, a.room, some)
		if err != nil {
			return fmt.Errorf("look for events of %s: %w", a.Room, err)
		}
		for _, ev := range found {
			a.hints.events[ev.ID] = ev
		}
	}
	return nil
}

// state is what of the state was accepted. What was set aside before, and could not be judged now either, was not.
func (a *Adoption) state() (changes []statetree.Change, accepted []*rooms.Event) {
	for _, ev := range a.State {
		if had := a.hints.events[ev.ID]; had != nil && had.Kind != rooms.Rejected && had.Kind != rooms.Aside {
			changes = append(changes, statetree.Change{Key: a.owners.cache.Hasher.Key(ev.StateID()), Value: statetree.Value(had.Num)})
			accepted = append(accepted, had)
		}
	}
	return changes, accepted
}

// storeTree makes the tree of the state, and stores it.
func (a *Adoption) storeTree(ctx context.Context, changes []statetree.Change) (statetree.Tree, *rooms.Doubt, error) {
	base := statetree.Tree{}
	if a.MembersOmitted {
		base = a.owners.cache.Trees.Partial(a.hole)
	}
	return a.owners.storeTree(ctx, a.room, base, changes)
}

// storeTree makes and stores a state that nothing names yet, and the doubt whether anything will. The caller has begun an
// unnamed tree of the room.
func (s *Owners) storeTree(ctx context.Context, room rooms.Room, base statetree.Tree, changes []statetree.Change) (statetree.Tree, *rooms.Doubt, error) {
	doubt := &rooms.Doubt{RoomNum: room.Num, First: s.db.NextNumber()}
	tree, nodes, err := s.cache.Trees.Set(ctx, base, changes)
	if err != nil {
		return tree, nil, fmt.Errorf("make the state of %s: %w", room.ID, err)
	}
	if len(nodes) == 0 {
		return tree, nil, nil
	}
	for some := range slices.Chunk(nodes, MaxRows) {
		_, err := s.db.Commit(ctx, rooms.Append{Room: room, Generation: s.generations.Add(1), Nodes: some, Doubt: doubt})
		if err != nil {
			s.cache.Trees.Dropped(nodes)
			return tree, nil, fmt.Errorf("store the state of %s: %w", room.ID, err)
		}
	}
	s.cache.Trees.Stored(nodes)
	return tree, doubt, nil
}

// tip is the room just before the join.
func (a *Adoption) tip(tree statetree.Tree, accepted []*rooms.Event) *tip {
	t := &tip{state: tree}
	for _, ev := range accepted {
		t.keep(ev)
		if ev.Type == event.TypeMember {
			t.count("", ev.Membership())
		}
	}
	return t
}

// storeMembers stores the members. What is known of users of this server is newer; but those whom the room has as its
// members are in it, and came: the answer to their own joins was lost. They are told with the join.
func (a *Adoption) storeMembers(ctx context.Context, accepted []*rooms.Event) (came []rooms.Membership, err error) {
	var members []rooms.Membership
	for _, ev := range accepted {
		if ev.Type != event.TypeMember || ev.Target() == a.Join.Target() && ev.Membership() == event.Join {
			continue
		}
		m := rooms.Membership{RoomNum: a.room.Num, Room: a.Room, User: ev.Target(), Membership: ev.Membership(), EventNum: ev.Num}
		if !a.owners.IsLocal(ev.Target()) {
			members = append(members, m)
			continue
		}
		if m.Membership == event.Join {
			came = append(came, m)
			continue
		}
		_, known, err := rooms.MembershipOf(ctx, a.owners.db, a.room.Num, ev.Target())
		if err != nil {
			return nil, fmt.Errorf("find the membership of %s in %s: %w", ev.Target(), a.Room, err)
		}
		if !known {
			members = append(members, m)
		}
	}
	for some := range slices.Chunk(members, MaxRows) {
		if _, err := a.owners.db.Commit(ctx, rooms.ImportMembers{Members: some}); err != nil {
			return nil, fmt.Errorf("store the members of %s: %w", a.Room, err)
		}
	}
	return came, nil
}

// BeginAnew forgets what was told of a room, by an invite for one, under another version than it has: else anybody could
// keep us out of a room with a false invite to it.
func (s *Owners) BeginAnew(ctx context.Context, room rooms.Room) (rooms.Room, error) {
	if _, err := s.db.Commit(ctx, rooms.BeginAnew{Room: room}); err != nil {
		return room, fmt.Errorf("begin anew with %s: %w", room.ID, err)
	}
	s.cache.PutRoom(room)
	return room, nil
}

// StoreMembers makes and stores a state of nothing but members, which nothing names yet.
func (s *Owners) StoreMembers(ctx context.Context, room rooms.Room, members map[event.Key]rooms.StateRow) (statetree.NodeID, error) {
	defer s.unnamed.begin(room.Num)()
	changes := make([]statetree.Change, 0, len(members))
	for key, row := range members {
		changes = append(changes, statetree.Change{Key: s.cache.Hasher.Key(key), Value: statetree.Value(row.Num)})
	}
	tree, _, err := s.storeTree(ctx, room, statetree.Tree{}, changes)
	return tree.Root(), err
}

// NewRoom begins a room that is made here. Its first event gives it its ID.
func (s *Owners) NewRoom(v *event.Version) *Step {
	st := s.newStep(rooms.Room{Num: s.db.NextNumber(), Version: v}, tip{}, nil)
	st.created = true
	return st
}

// Delay dates the events of the step some milliseconds later.
func (st *Step) Delay(ms int64) { st.nowMS += ms }

// Name gives a new room its ID.
func (st *Step) Name(id matrix.RoomID) { st.room.ID = id }

// MakeAlias has an alias of a new room stored with it.
func (st *Step) MakeAlias(alias matrix.RoomAlias, by matrix.UserID) {
	st.aliases = append(st.aliases, rooms.Alias{Alias: alias, RoomNum: st.room.Num, Room: st.room.ID, Creator: by})
}

// MakesAlias says whether an alias is stored with the room.
func (st *Step) MakesAlias(alias matrix.RoomAlias) bool {
	return slices.ContainsFunc(st.aliases, func(a rooms.Alias) bool { return a.Alias == alias })
}

// Abandon gives up a new room.
func (s *Owners) Abandon(st *Step) { s.cache.Trees.Dropped(st.nodes) }

// Found stores a new room. ErrDuplicate says that its ID or an alias is taken.
func (s *Owners) Found(ctx context.Context, st *Step) error {
	stored := make(chan error, 1)
	s.db.Submit(st.write(s.generations.Add(1)), func(first storage.Position, err error) {
		if err != nil {
			s.cache.Trees.Dropped(st.nodes)
		} else {
			s.cache.Trees.Stored(st.nodes)
			s.remember(st, first)
		}
		stored <- err
	})
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return ctx.Err() // the commit goes on
	}
}
