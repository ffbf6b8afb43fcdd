package local

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A stateChange is a piece of state that somebody wants in a room.
type stateChange struct {
	event.Key
	content []byte // a JSON object
}

// checkState refuses state that the rules of the room might let pass, but that no user of ours should
// put there: what would be ignored, or break the room.
func (s *Users) checkState(ctx context.Context, st *owner.Step, by matrix.Requester, c stateChange) error {
	if c.Type == event.TypeMember {
		return s.checkMember(ctx, st, by, c)
	}
	if err := st.MustBeJoined(ctx, by.User); err != nil {
		return err
	}
	switch c.Type {
	case event.TypeCreate:
		return matrix.Errorf(matrix.InvalidParam, "a room is created once")
	case event.TypePowerLevels:
		return levelRulesOf(st).check(c.content)
	case event.TypeJoinRules:
		return mustHaveText(c.content, "join_rule")
	case event.TypeHistoryVisibility:
		return mustHaveText(c.content, "history_visibility")
	case event.TypeEncryption:
		return mustHaveText(c.content, "algorithm")
	case event.TypeCanonicalAlias:
		return s.checkCanonicalAlias(ctx, st, c.content)
	}
	return nil
}

func mustHaveText(content []byte, name string) error {
	if _, ok := canonical.String(canonical.Get(content, name)); !ok {
		return matrix.Errorf(matrix.BadJSON, "%q must be a text", name)
	}
	return nil
}

// checkMember holds a member event that is sent as state to what the membership endpoints see to.
func (s *Users) checkMember(ctx context.Context, st *owner.Step, by matrix.Requester, c stateChange) error {
	target, err := matrix.ParseUserID(c.StateKey)
	if err != nil {
		return err
	}
	membership, _ := canonical.String(canonical.Get(c.content, "membership"))
	switch event.Membership(membership) {
	case event.Invite:
		return s.checkInvitee(by, target)
	case event.Join:
		return checkGuestJoins(ctx, st, by)
	case event.Leave, event.Ban, event.Knock:
		return nil
	}
	return matrix.Errorf(matrix.BadJSON, "\"membership\" must be one of join, invite, leave, ban, knock")
}

// levelRules say how power levels may be given in a room.
type levelRules struct {
	version  *event.Version
	creators []matrix.UserID
}

func levelRulesOf(st *owner.Step) levelRules {
	return levelRules{version: st.Room().Version, creators: st.Creators()}
}

// check demands of every level the form that the room version allows.
// https://spec.matrix.org/v1.19/rooms/v10/#values-in-mroompower_levels-events-must-be-integers
func (r levelRules) check(content []byte) error {
	for name, raw := range canonical.Fields(content) {
		switch name {
		case "users_default", "events_default", "state_default", "ban", "redact", "kick", "invite":
			if !isLevel(r.version, raw) {
				return matrix.Errorf(matrix.BadJSON, "power level %q must be an integer", name)
			}
		case "users", "events", "notifications":
			if err := r.checkMap(name, raw); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r levelRules) checkMap(name string, raw []byte) error {
	if len(raw) == 0 || raw[0] != '{' {
		return matrix.Errorf(matrix.BadJSON, "%q of the power levels must be an object", name)
	}
	for key, level := range canonical.Fields(raw) {
		if !isLevel(r.version, level) {
			return matrix.Errorf(matrix.BadJSON, "the power level of %q must be an integer", key)
		}
		if name != "users" {
			continue
		}
		user, err := matrix.ParseUserID(key)
		if err != nil {
			return matrix.Errorf(matrix.BadJSON, "%q has a power level, but is not a user", key)
		}
		if r.version.CreatorsOutOfLevels && slices.Contains(r.creators, user) {
			return matrix.Errorf(matrix.BadJSON, "%s created the room, and may not be given a power level", user)
		}
	}
	return nil
}

// isLevel: strict canonical JSON has no floats, so a level is an integer, or in old versions a text of one.
func isLevel(v *event.Version, raw []byte) bool {
	if _, ok := canonical.Int(raw); ok {
		return true
	}
	text, ok := canonical.String(raw)
	if !ok || v.Levels == event.IntegerLevels {
		return false
	}
	_, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return err == nil
}

// checkCanonicalAlias demands that the aliases that are new in the content lead to this room.
// https://spec.matrix.org/v1.19/client-server-api/#mroomcanonical_alias
func (s *Users) checkCanonicalAlias(ctx context.Context, st *owner.Step, content []byte) error {
	wanted, err := canonicalAliases(content)
	if err != nil {
		return err
	}
	found, err := st.Lookup(ctx, event.Key{Type: event.TypeCanonicalAlias})
	if err != nil {
		return err
	}
	had := make(map[matrix.RoomAlias]bool)
	if found[0] != nil {
		before, _ := canonicalAliases(found[0].Content) // what others sent may be anything
		for _, alias := range before {
			had[alias] = true
		}
	}
	for _, alias := range wanted {
		if had[alias] || st.MakesAlias(alias) {
			continue
		}
		to, ok, err := rooms.ByAlias(ctx, s.db, alias)
		if err != nil {
			return err
		}
		if !ok || to.RoomNum != st.Room().Num {
			return matrix.Errorf(matrix.BadAlias, "%s does not lead to %s", alias, st.Room().ID)
		}
	}
	return nil
}

// maxCanonicalAliases bounds the aliases that are looked up for one event.
const maxCanonicalAliases = 100

func canonicalAliases(content []byte) ([]matrix.RoomAlias, error) {
	var aliases []matrix.RoomAlias
	take := func(raw []byte) error {
		text, ok := canonical.String(raw)
		if !ok {
			return matrix.Errorf(matrix.BadJSON, "an alias must be a text")
		}
		alias, err := matrix.ParseRoomAlias(text)
		if err != nil {
			return err
		}
		if aliases = append(aliases, alias); len(aliases) > maxCanonicalAliases {
			return matrix.Errorf(matrix.TooLarge, "more than %d aliases", maxCanonicalAliases)
		}
		return nil
	}
	raw := canonical.Get(content, "alias")
	if text, ok := canonical.String(raw); raw != nil && string(raw) != "null" && !(ok && text == "") {
		if err := take(raw); err != nil {
			return aliases, err
		}
	}
	alt := canonical.Get(content, "alt_aliases")
	if alt != nil && alt[0] != '[' {
		return aliases, matrix.Errorf(matrix.BadJSON, "\"alt_aliases\" must be a list")
	}
	for raw := range canonical.Elements(alt) {
		if err := take(raw); err != nil {
			return aliases, err
		}
	}
	return aliases, nil
}

// withoutAuthoriser takes out of a client's content for a member who is joined already that somebody vouches for it:
// nobody needs to, and nobody has.
// https://spec.matrix.org/v1.19/rooms/v11/#authorization-rules
func withoutAuthoriser(content []byte, now *rooms.Event) ([]byte, error) {
	if now == nil || now.Type != event.TypeMember || now.Membership() != event.Join || canonical.Get(content, member.Authoriser) == nil {
		return content, nil
	}
	members := map[string]json.RawMessage{}
	for name, value := range canonical.Fields(content) {
		if name != member.Authoriser {
			members[name] = value
		}
	}
	return canonical.Marshal(members)
}
