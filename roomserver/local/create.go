package local

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// CreateRoom says what a new room is to be.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom
type CreateRoom struct {
	Public          bool   // listed in the directory
	AliasName       string // local part of the alias; empty for none
	Name            string
	Topic           string
	Invite          []matrix.UserID
	InviteLater     []matrix.UserID // users of other servers: the room is made ready for them, and the caller invites them
	Direct          bool
	Version         matrix.RoomVersion // empty: the server's default
	Preset          string             // empty: by Public
	CreationContent []byte             // JSON object; nil for none
	InitialState    []InitialState
	PowerLevels     []byte // JSON object, laid over the levels of the preset; nil for none
}

// InitialState is a piece of state that a room begins with.
type InitialState struct {
	Type     string
	StateKey string
	Content  []byte // JSON object
}

// Limits of what a room may begin with: all of it is one write.
const (
	maxFirstInvites = 200
	maxInitialState = 500
)

// Create makes a room, with all that it is to begin with, or nothing.
func (s *Users) Create(ctx context.Context, by matrix.Requester, in CreateRoom) (matrix.RoomID, error) {
	plan, err := s.planRoom(ctx, by, in)
	if err != nil {
		return "", err
	}
	for try := range int64(maxCreateTries) {
		id, err := plan.commit(ctx, try)
		if !errors.Is(err, storage.ErrDuplicate) {
			return id, err
		}
		// The alias was taken meanwhile, or the same user made just such a room in the same millisecond.
		if err := plan.readAlias(ctx, by); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("create a room: %w", storage.ErrDuplicate)
}

// maxCreateTries bounds the search for a room ID that is free.
const maxCreateTries = 8

// commit builds the room, dated some milliseconds late, and stores it.
func (p *plan) commit(ctx context.Context, lateMS int64) (matrix.RoomID, error) {
	st := p.users.owners.NewRoom(p.version)
	st.Delay(lateMS)
	if err := p.build(ctx, st); err != nil {
		p.users.owners.Abandon(st)
		return "", invalidRoomState(err)
	}
	if err := p.users.owners.Found(ctx, st); err != nil {
		return "", err
	}
	return st.Room().ID, nil
}

func roomInUse(alias matrix.RoomAlias) error {
	return matrix.Errorf(matrix.RoomInUse, "the alias %s is taken", alias)
}

// invalidRoomState: what the rules refuse of a new room is a mistake of the request, not a lack of power.
func invalidRoomState(err error) error {
	var refused *matrix.Error
	if errors.As(err, &refused) && refused.Code == matrix.Forbidden {
		return matrix.Errorf(matrix.InvalidRoomState, "the room cannot begin so: %s", refused.Message)
	}
	return err
}

// A plan is a room to be, checked as far as that goes without building it.
type plan struct {
	CreateRoom
	users    *Users
	by       matrix.UserID
	version  *event.Version
	preset   preset
	alias    matrix.RoomAlias
	creation map[string]json.RawMessage
	levels   map[string]json.RawMessage
	profiles map[matrix.UserID]member.Profile
}

// preset is what a preset stands for.
type preset struct {
	joinRule, guestAccess string
	inviteLevel           int
	equalInvitees         bool // they get the power of the creator
}

var presets = map[string]preset{
	"private_chat":         {joinRule: "invite", guestAccess: "can_join"},
	"trusted_private_chat": {joinRule: "invite", guestAccess: "can_join", equalInvitees: true},
	"public_chat":          {joinRule: "public", guestAccess: guestsForbidden, inviteLevel: 50},
}

func (s *Users) planRoom(ctx context.Context, by matrix.Requester, in CreateRoom) (*plan, error) {
	if by.Guest {
		return nil, matrix.Errorf(matrix.GuestAccessForbidden, "guests may not create rooms")
	}
	p := &plan{CreateRoom: in, users: s, by: by.User, profiles: make(map[matrix.UserID]member.Profile)}
	if p.Preset == "" {
		p.Preset = "private_chat"
		if in.Public {
			p.Preset = "public_chat"
		}
	}
	var known bool
	if p.preset, known = presets[p.Preset]; !known {
		return nil, matrix.Errorf(matrix.InvalidParam, "there is no preset %q", p.Preset)
	}
	if p.Version == "" {
		p.Version = s.version
	}
	if p.version, known = event.VersionOf(p.Version); !known {
		return nil, matrix.Errorf(matrix.UnsupportedRoomVersion, "this server has no room version %q", p.Version)
	}
	for _, check := range []func(context.Context, matrix.Requester) error{p.readObjects, p.readUsers, p.readAlias} {
		if err := check(ctx, by); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// readObjects parses what comes as JSON.
func (p *plan) readObjects(context.Context, matrix.Requester) (err error) {
	if p.creation, err = readObject(p.CreationContent, "creation_content"); err != nil {
		return err
	}
	if p.levels, err = readObject(p.PowerLevels, "power_level_content_override"); err != nil {
		return err
	}
	if len(p.InitialState) > maxInitialState {
		return matrix.Errorf(matrix.InvalidParam, "more than %d pieces of initial state", maxInitialState)
	}
	return nil
}

func readObject(raw []byte, name string) (map[string]json.RawMessage, error) {
	fields := make(map[string]json.RawMessage)
	if len(raw) == 0 {
		return fields, nil
	}
	text, err := canonical.JSON(raw, canonical.Strict)
	if err != nil {
		return nil, err
	}
	if text[0] != '{' {
		return nil, matrix.Errorf(matrix.BadJSON, "%q must be an object", name)
	}
	for key, value := range canonical.Fields(text) {
		fields[key] = value
	}
	return fields, nil
}

// readUsers checks who is invited, and reads the profiles of all that are named in the room.
func (p *plan) readUsers(ctx context.Context, by matrix.Requester) (err error) {
	if len(p.Invite)+len(p.InviteLater) > maxFirstInvites {
		return matrix.Errorf(matrix.InvalidParam, "more than %d invites", maxFirstInvites)
	}
	for _, user := range append([]matrix.UserID{p.by}, p.Invite...) {
		if err := p.users.checkInvitee(by, user); err != nil {
			return err
		}
		if _, known := p.profiles[user]; known && user != p.by {
			continue
		}
		if p.profiles[user], err = p.users.people.Profile(ctx, user); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) readAlias(ctx context.Context, _ matrix.Requester) (err error) {
	if p.AliasName == "" {
		return nil
	}
	p.alias, err = matrix.ParseRoomAlias("#" + p.AliasName + ":" + string(p.users.name))
	if err != nil {
		return err
	}
	_, taken, err := rooms.ByAlias(ctx, p.users.db, p.alias)
	if err == nil && taken {
		err = roomInUse(p.alias)
	}
	return err
}

// build adds the events of a new room, in the order that the specification has them.
func (p *plan) build(ctx context.Context, st *owner.Step) error {
	for _, part := range []func(context.Context, *owner.Step) error{
		p.create, p.joinCreator, p.setPowerLevels, p.setAlias, p.setPreset, p.setInitialState, p.describe, p.invite,
	} {
		if err := part(ctx, st); err != nil {
			return err
		}
	}
	if p.Public {
		return st.List(ctx, true)
	}
	return nil
}

// create adds m.room.create, and with it gives the room its ID.
// https://spec.matrix.org/v1.19/client-server-api/#mroomcreate
func (p *plan) create(ctx context.Context, st *owner.Step) error {
	content := make(map[string]any, len(p.creation)+2)
	for key, value := range p.creation {
		content[key] = value
	}
	content["room_version"] = p.version.ID
	if delete(content, "creator"); p.version.Creator == event.CreatorInContent {
		content["creator"] = p.by
	}
	if p.version.AdditionalCreators {
		creators, err := p.additionalCreators()
		if err != nil {
			return err
		}
		if delete(content, "additional_creators"); len(creators) > 0 {
			content["additional_creators"] = creators
		}
	}
	if p.version.RoomIDs == event.ChosenRoomIDs {
		opaque := make([]byte, 15)
		if _, err := io.ReadFull(p.users.rand, opaque); err != nil {
			return fmt.Errorf("choose a room ID: %w", err)
		}
		st.Name(matrix.RoomID("!" + base64.RawURLEncoding.EncodeToString(opaque) + ":" + string(p.users.name)))
	}
	ev, err := p.set(ctx, st, event.Key{Type: event.TypeCreate}, content)
	if err == nil {
		st.Name(ev.RoomID)
	}
	return err
}

// additionalCreators are those asked for, and in a trusted chat the invited; each once, without the
// creator.
func (p *plan) additionalCreators() ([]matrix.UserID, error) {
	var asked []string
	if raw, ok := p.creation["additional_creators"]; ok {
		if err := json.Unmarshal(raw, &asked); err != nil {
			return nil, matrix.Errorf(matrix.InvalidParam, "\"additional_creators\" must be a list of user IDs")
		}
	}
	var creators []matrix.UserID
	add := func(user matrix.UserID) {
		if user != p.by && !slices.Contains(creators, user) {
			creators = append(creators, user)
		}
	}
	for _, text := range asked {
		user, err := matrix.ParseUserID(text)
		if err != nil {
			return nil, err
		}
		add(user)
	}
	if p.preset.equalInvitees {
		for _, user := range slices.Concat(p.Invite, p.InviteLater) {
			add(user)
		}
	}
	return creators, nil
}

func (p *plan) joinCreator(ctx context.Context, st *owner.Step) error {
	return member.Set(ctx, st, p.by, member.Change{Target: p.by, Membership: event.Join, Profile: p.profiles[p.by]})
}

// setPowerLevels adds m.room.power_levels: the default, with what was asked for laid over it.
func (p *plan) setPowerLevels(ctx context.Context, st *owner.Step) error {
	tombstone, users := 100, make(map[matrix.UserID]int)
	if p.version.CreatorsOutOfLevels {
		tombstone = 150 // the specification wants it above the level of state
	} else {
		users[p.by] = 100
		for _, user := range slices.Concat(p.Invite, p.InviteLater) {
			if p.preset.equalInvitees {
				users[user] = 100
			}
		}
	}
	content := map[string]any{
		"users": users, "users_default": 0, "events_default": 0, "state_default": 50,
		"ban": 50, "kick": 50, "redact": 50, "invite": p.preset.inviteLevel,
		"events": map[string]int{
			event.TypeName: 50, event.TypeAvatar: 50, event.TypeCanonicalAlias: 50, event.TypeTombstone: tombstone,
			event.TypePowerLevels: 100, event.TypeHistoryVisibility: 100, event.TypeServerACL: 100, event.TypeEncryption: 100,
		},
	}
	for key, value := range p.levels {
		content[key] = value
	}
	_, err := p.set(ctx, st, event.PowerLevelsKey, content)
	return err
}

func (p *plan) setAlias(ctx context.Context, st *owner.Step) error {
	if p.alias == "" {
		return nil
	}
	st.MakeAlias(p.alias, p.by)
	_, err := p.set(ctx, st, event.Key{Type: event.TypeCanonicalAlias}, map[string]any{"alias": p.alias})
	return err
}

// guestsForbidden is what holds in a room that says nothing of guests.
const guestsForbidden = "forbidden"

// setPreset adds what the preset stands for, but what initial state has in its place. That guests are forbidden is so
// without saying it.
// https://spec.matrix.org/v1.19/client-server-api/#mroomguest_access
func (p *plan) setPreset(ctx context.Context, st *owner.Step) error {
	for _, piece := range []struct{ typ, field, value string }{
		{event.TypeJoinRules, "join_rule", p.preset.joinRule},
		{event.TypeHistoryVisibility, "history_visibility", "shared"},
		{event.TypeGuestAccess, "guest_access", p.preset.guestAccess},
	} {
		key := event.Key{Type: piece.typ}
		if piece.value == guestsForbidden || slices.ContainsFunc(p.InitialState, func(s InitialState) bool { return s.key() == key }) {
			continue
		}
		if _, err := p.set(ctx, st, key, map[string]any{piece.field: piece.value}); err != nil {
			return err
		}
	}
	return nil
}

func (s InitialState) key() event.Key { return event.Key{Type: s.Type, StateKey: s.StateKey} }

func (p *plan) setInitialState(ctx context.Context, st *owner.Step) error {
	for _, piece := range p.InitialState {
		overridden := piece.key() == event.Key{Type: event.TypeName} && p.Name != "" || piece.key() == event.Key{Type: event.TypeTopic} && p.Topic != ""
		if overridden {
			continue
		}
		content, err := canonical.JSON(piece.Content, canonical.Strict)
		if err != nil {
			return err
		}
		if err := p.users.checkState(ctx, st, matrix.Requester{User: p.by}, stateChange{piece.key(), content}); err != nil {
			return err
		}
		_, err = st.Add(ctx, owner.Draft{Type: piece.Type, StateKey: &piece.StateKey, Sender: p.by, Content: content})
		if err != nil {
			return err
		}
	}
	return nil
}

// describe adds name and topic.
func (p *plan) describe(ctx context.Context, st *owner.Step) error {
	if p.Name != "" {
		if _, err := p.set(ctx, st, event.Key{Type: event.TypeName}, map[string]any{"name": p.Name}); err != nil {
			return err
		}
	}
	if p.Topic == "" {
		return nil
	}
	text := []map[string]string{{"body": p.Topic, "mimetype": "text/plain"}}
	_, err := p.set(ctx, st, event.Key{Type: event.TypeTopic}, map[string]any{
		"topic": p.Topic, "m.topic": map[string]any{"m.text": text},
	})
	return err
}

func (p *plan) invite(ctx context.Context, st *owner.Step) error {
	done := map[matrix.UserID]bool{p.by: true}
	for _, user := range p.Invite {
		if done[user] {
			continue
		}
		done[user] = true
		invited := member.Change{Target: user, Membership: event.Invite, Direct: p.Direct, Profile: p.profiles[user]}
		if err := member.Set(ctx, st, p.by, invited); err != nil {
			return err
		}
	}
	return nil
}

// set adds a state event of the creator.
func (p *plan) set(ctx context.Context, st *owner.Step, key event.Key, content map[string]any) (*rooms.Event, error) {
	raw, err := canonical.Marshal(content)
	if err != nil {
		return nil, err
	}
	if key.Type == event.TypePowerLevels {
		if err := levelRulesOf(st).check(raw); err != nil {
			return nil, err
		}
	}
	return st.Add(ctx, owner.Draft{Type: key.Type, StateKey: &key.StateKey, Sender: p.by, Content: raw})
}
