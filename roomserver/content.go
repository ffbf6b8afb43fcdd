package roomserver

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// checkState refuses state that the rules of the room might let pass, but that no user of ours should
// put there: what would be ignored, or break the room.
func (st *step) checkState(ctx context.Context, by matrix.Requester, key event.Key, content []byte) error {
	if key.Type == event.TypeMember {
		return st.checkMember(ctx, by, key, content)
	}
	if err := st.mustBeJoined(ctx, by.User); err != nil {
		return err
	}
	switch key.Type {
	case event.TypeCreate:
		return matrix.Errorf(matrix.InvalidParam, "a room is created once")
	case event.TypePowerLevels:
		return st.checkPowerLevels(content)
	case event.TypeJoinRules:
		return mustHaveText(content, "join_rule")
	case event.TypeHistoryVisibility:
		return mustHaveText(content, "history_visibility")
	case typeEncryption:
		return mustHaveText(content, "algorithm")
	case typeCanonicalAlias:
		return st.checkCanonicalAlias(ctx, content)
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
func (st *step) checkMember(ctx context.Context, by matrix.Requester, key event.Key, content []byte) error {
	target, err := matrix.ParseUserID(key.StateKey)
	if err != nil {
		return err
	}
	membership, _ := canonical.String(canonical.Get(content, "membership"))
	switch event.Membership(membership) {
	case event.Invite:
		return st.server.checkInvitee(by, target)
	case event.Join:
		return st.checkGuestJoins(ctx, by)
	case event.Leave, event.Ban, event.Knock:
		return nil
	}
	return matrix.Errorf(matrix.BadJSON, "\"membership\" must be one of join, invite, leave, ban, knock")
}

// checkPowerLevels demands of every level the form that the room version allows.
// https://spec.matrix.org/v1.19/rooms/v10/#values-in-mroompower_levels-events-must-be-integers
func (st *step) checkPowerLevels(content []byte) error {
	for name, raw := range canonical.Fields(content) {
		switch name {
		case "users_default", "events_default", "state_default", "ban", "redact", "kick", "invite":
			if !isLevel(st.room.Version, raw) {
				return matrix.Errorf(matrix.BadJSON, "power level %q must be an integer", name)
			}
		case "users", "events", "notifications":
			if err := st.checkLevelMap(name, raw); err != nil {
				return err
			}
		}
	}
	return nil
}

func (st *step) checkLevelMap(name string, raw []byte) error {
	if len(raw) == 0 || raw[0] != '{' {
		return matrix.Errorf(matrix.BadJSON, "%q of the power levels must be an object", name)
	}
	for key, level := range canonical.Fields(raw) {
		if !isLevel(st.room.Version, level) {
			return matrix.Errorf(matrix.BadJSON, "the power level of %q must be an integer", key)
		}
		if name != "users" {
			continue
		}
		user, err := matrix.ParseUserID(key)
		if err != nil {
			return matrix.Errorf(matrix.BadJSON, "%q has a power level, but is not a user", key)
		}
		if st.room.Version.CreatorsOutOfLevels && st.isCreator(user) {
			return matrix.Errorf(matrix.BadJSON, "%s created the room, and may not be given a power level", user)
		}
	}
	return nil
}

func (st *step) isCreator(user matrix.UserID) bool {
	for _, creator := range auth.Creators(st.room.Version, plain(st.tip.create)) {
		if creator == user {
			return true
		}
	}
	return false
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
func (st *step) checkCanonicalAlias(ctx context.Context, content []byte) error {
	wanted, err := canonicalAliases(content)
	if err != nil {
		return err
	}
	found, err := st.lookup(ctx, event.Key{Type: typeCanonicalAlias})
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
		if had[alias] || st.makesAlias(alias) {
			continue
		}
		to, ok, err := rooms.ByAlias(ctx, st.server.db, alias)
		if err != nil {
			return err
		}
		if !ok || to.RoomNum != st.room.Num {
			return matrix.Errorf(matrix.BadAlias, "%s does not lead to %s", alias, st.room.ID)
		}
	}
	return nil
}

// makesAlias says whether an alias is made with the room.
func (st *step) makesAlias(alias matrix.RoomAlias) bool {
	return slices.ContainsFunc(st.aliases, func(a rooms.Alias) bool { return a.Alias == alias })
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

// authoriser names who vouches for a join to a restricted room.
const authoriser = "join_authorised_via_users_server"

// withoutAuthoriser takes out of a client's content for a member who is joined already that somebody vouches for it:
// nobody needs to, and nobody has.
// https://spec.matrix.org/v1.19/rooms/v11/#authorization-rules
func withoutAuthoriser(content []byte, now *rooms.Event) ([]byte, error) {
	if now == nil || now.Type != event.TypeMember || now.Membership() != event.Join || canonical.Get(content, authoriser) == nil {
		return content, nil
	}
	members := map[string]json.RawMessage{}
	for name, value := range canonical.Fields(content) {
		if name != authoriser {
			members[name] = value
		}
	}
	return canonical.Marshal(members)
}
