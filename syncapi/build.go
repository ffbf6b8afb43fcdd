package syncapi

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// builder makes the answer of one request.
type builder struct {
	api     *API
	user    *user
	req     *request
	look    glance
	form    view.Form
	counted int64           // typing and presence are told up to here
	typing  []matrix.RoomID // whose typists changed
	data    accountData
	ignored map[matrix.UserID]bool
	met     map[matrix.UserID]bool     // who came into a room of the user's, or whose room it came into
	lazy    *lazyMembers               // nil: members are not loaded lazily, or redundantly
	unseen  map[int64]storage.Position // rooms that became whole after the token, at that position, or are partial: 0
	removed map[int64]bool             // events by which others put the user out of a room; of an initial sync
	out     answer
}

// since is where the client stands; 0 if it knows nothing.
func (b *builder) since() storage.Position { return b.req.told.Position }

// sameBoot says whether the client was told of typing and presence by this process.
func (b *builder) sameBoot() bool { return b.req.told.Boot == b.api.Ephemeral.Boot() }

// built is an answer.
type built struct {
	body      []byte
	token     view.SyncToken // the one in body
	something bool           // there is anything in it
}

// build makes the answer as of now.
func (a *API) build(ctx context.Context, u *user, r *request) (built, error) {
	b := &builder{
		api: a, user: u, req: r, counted: a.Ephemeral.Counter(),
		form: view.Form{Now: a.Now(), Federation: r.filter.EventFormat == "federation", Fields: r.filter.EventFields},
	}
	b.typing = b.typingRooms()
	if err := b.glance(ctx); err != nil {
		return built{}, err
	}
	if err := b.prepare(ctx); err != nil {
		return built{}, err
	}
	for _, s := range b.look.rooms {
		if err := b.room(ctx, s); err != nil {
			return built{}, err
		}
	}
	if err := b.presence(ctx); err != nil {
		return built{}, err
	}
	b.globalData()
	toDevice, err := b.toDevice(ctx)
	if err != nil {
		return built{}, err
	}
	token := view.SyncToken{
		Incarnation: a.DB.Incarnation(), Position: b.look.position, ToDevice: toDevice,
		Boot: a.Ephemeral.Boot(), Ephemeral: b.counted,
	}
	return built{b.out.body(token), token, b.out.something()}, nil
}

// glance looks at the hub, and reads the account data that changed, until both
// are of one moment.
func (b *builder) glance(ctx context.Context) error {
	hub := b.api.hub
	all := b.req.initial || b.req.fullState || !b.sameBoot()
	for {
		b.look = hub.glance(b.user, b.since(), all)
		if b.look.stale {
			if err := hub.refresh(ctx, b.user); err != nil {
				return err
			}
			continue
		}
		b.data = accountData{}
		if b.look.news > b.since() || b.req.initial {
			if err := b.readAccountData(ctx); err != nil {
				return err
			}
		}
		more := slices.AppendSeq(slices.Clone(b.typing), maps.Keys(b.data.rooms))
		if all || len(more) == 0 || hub.addRooms(b.user, &b.look, more) {
			return nil
		}
	}
}

func (b *builder) readAccountData(ctx context.Context) error {
	found, err := b.api.Accounts.AccountDataSince(ctx, b.user.id, b.since(), b.look.position)
	if err != nil {
		return err
	}
	b.data = sortAccountData(found)
	if b.req.initial {
		b.data.global = b.api.Accounts.WithPushRules(b.user.id, b.data.global)
	}
	return nil
}

// prepare reads what rooms need.
func (b *builder) prepare(ctx context.Context) (err error) {
	if b.req.filter.Room.State.LazyLoadMembers && !b.req.filter.Room.State.IncludeRedundantMembers {
		b.lazy = b.user.lazyMembers(b.req.by.Device, lazyMembers{
			filter: b.req.filter, since: b.req.since.Position, upTo: b.look.position,
		})
	}
	if len(b.look.rooms) == 0 {
		return nil
	}
	if err := b.findPartial(ctx); err != nil {
		return err
	}
	if b.ignored, err = b.api.ignoredBy(ctx, b.user, b.look.news); err != nil || !b.req.initial {
		return err
	}
	b.removed, err = b.removals(ctx)
	return err
}

// removals returns the events by which others put the user out of rooms. The user is told of these also by an initial
// sync: a client that was not there at the time would take it that the room never was.
func (b *builder) removals(ctx context.Context) (map[int64]bool, error) {
	var ends []int64
	for _, s := range b.look.rooms {
		if m := s.Membership.Membership; !s.Forgotten && (m == event.Leave || m == event.Ban) {
			ends = append(ends, s.EventNum)
		}
	}
	if len(ends) == 0 {
		return nil, nil
	}
	return rooms.ByOthers(ctx, b.api.DB, b.user.id, ends)
}

// room adds one room to the section where the user's membership puts it.
func (b *builder) room(ctx context.Context, s sight) error {
	if !b.req.filter.Room.Wants(s.Room) || s.Forgotten && b.req.initial {
		return nil
	}
	changed := b.req.initial || s.Position > b.since()
	switch s.Membership.Membership {
	case event.Join:
		return b.joined(ctx, s)
	case event.Invite:
		if changed {
			b.invited(s)
		}
	case event.Knock:
		if changed {
			b.out.knock.add(s.Room, strippedSection("knock_state", s.Stripped))
		}
	default:
		if changed && (!b.req.initial || b.req.filter.Room.IncludeLeave || b.removed[s.EventNum]) {
			return b.left(ctx, s)
		}
	}
	return nil
}

// viewer returns the user's eye on the room of s. Its whole past is read only if
// it moved since the token.
func (b *builder) viewer(ctx context.Context, s sight) (*view.Viewer, error) {
	room, err := b.api.Rooms.Room(ctx, s.Room)
	if err != nil {
		return nil, err
	}
	past := view.Past{Now: s.Membership, History: []rooms.Membership{s.Membership}}
	if s.Membership.Membership != event.Join || (!b.req.initial && s.Position > b.since()) {
		if past.History, err = rooms.MembershipHistory(ctx, b.api.DB, room, b.user.id); err != nil {
			return nil, err
		}
		// The database may be ahead of what this answer is about.
		past.History = slices.DeleteFunc(past.History, func(m rooms.Membership) bool { return m.Position > b.look.position })
	}
	return view.Of(b.api.Rooms, room, b.req.by, past), nil
}

// ignoredBy returns whom a user ignores. It is read again only after news of the user.
// https://spec.matrix.org/v1.19/client-server-api/#ignoring-users
func (a *API) ignoredBy(ctx context.Context, u *user, news storage.Position) (map[matrix.UserID]bool, error) {
	u.mu.Lock()
	kept, at := u.ignored, u.ignoredAt
	u.mu.Unlock()
	if kept != nil && at >= news {
		return kept, nil
	}
	content, err := a.Accounts.AccountData(ctx, u.id, "", "m.ignored_user_list")
	if err != nil && matrix.CodeOf(err) != matrix.NotFound {
		return nil, err
	}
	kept = ignoredUsers(content)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ignored, u.ignoredAt = kept, news
	return kept, nil
}

// ago is the age of a moment in milliseconds.
func ago(d time.Duration) int64 { return max(0, d.Milliseconds()) }
