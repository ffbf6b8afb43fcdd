// Package auth holds the authorisation rules of all room versions, in one
// place: whether an event is allowed in a given state of its room.
//
// The rules are numbered as in room version 11,
// https://spec.matrix.org/v1.19/rooms/v11/#authorisation-rules; a rule that
// other versions have in its place, or in addition, is named with the version
// ("v12:10.4"). What differs between versions is asked of the fields of
// event.Version.
//
// Everything here is pure. The caller loads the state that Needed names, has
// verified the signatures that event.RequiredSigners asks for (rule 4.2), and
// calls CheckAuthEvents once for an event that came from another server, and
// Check for each state that the event must be allowed in.
package auth

import (
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// State looks up a state event of the room, nil if there is none. It must know
// all that Needed names, and the create event of the room in every version.
type State func(event.Key) *event.Event

// Rejection says which rule an event breaks.
type Rejection struct {
	Rule   string // as in room version 11; others carry their version: "v12:2"
	Reason string
}

// Error returns rule and reason.
func (r *Rejection) Error() string {
	return fmt.Sprintf("auth rule %s: %s", r.Rule, r.Reason)
}

func reject(rule, format string, args ...any) error {
	return &Rejection{Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

// Keys of the state that every check looks at.
var (
	createKey      = event.Key{Type: event.TypeCreate}
	powerLevelsKey = event.Key{Type: event.TypePowerLevels}
	joinRulesKey   = event.Key{Type: event.TypeJoinRules}
)

func memberKey(u matrix.UserID) event.Key {
	return event.Key{Type: event.TypeMember, StateKey: string(u)}
}

// StateOf returns the state that consists of the given events, such as the
// auth events of an event. Of two with the same key the later counts.
func StateOf(events ...*event.Event) State {
	m := make(map[event.Key]*event.Event, len(events))
	for _, e := range events {
		if e.IsState() {
			m[e.StateID()] = e
		}
	}
	return func(k event.Key) *event.Event { return m[k] }
}

// Check says whether the event is allowed in the state st: nil, or a
// *Rejection.
// https://spec.matrix.org/v1.19/server-server-api/#authorisation-rules
func Check(ev *event.Event, st State) error {
	return CheckWith(ev, st, nil)
}

// CheckWith is Check for callers that keep the parsed power levels of a room.
// They are used if they were parsed from the create and power levels events of
// st, and parsed anew otherwise, so that stale ones never decide.
func CheckWith(ev *event.Event, st State, levels *PowerLevels) error {
	// v11 rule 1.
	if ev.Type == event.TypeCreate {
		return checkCreate(ev)
	}
	c := check{ev: ev, v: ev.Version, st: st, create: st(createKey), levels: levels}
	if err := c.room(); err != nil {
		return err
	}
	// v1 rule 4, gone in v6.
	if ev.Type == event.TypeAliases && c.v.AliasesRule {
		return c.aliases()
	}
	// v11 rule 4.
	if ev.Type == event.TypeMember {
		return c.member()
	}
	return c.other()
}

// check is one event being checked against one state.
type check struct {
	ev     *event.Event
	v      *event.Version
	st     State
	create *event.Event
	levels *PowerLevels // parsed from st after power() was called
	known  bool
}

// power returns the power levels in the state.
func (c *check) power() *PowerLevels {
	if c.known {
		return c.levels
	}
	c.known = true
	source := c.st(powerLevelsKey)
	if c.levels == nil || c.levels.create == nil || !same(c.levels.create, c.create) || !same(c.levels.source, source) {
		parsed := Levels(c.v, c.create, source)
		c.levels = &parsed
	}
	return c.levels
}

// same says whether two events, or their absence, are the same.
func same(a, b *event.Event) bool {
	return a == b || a != nil && b != nil && a.ID == b.ID && a.RoomID == b.RoomID && a.Redacted == b.Redacted
}

// membership returns the current membership of a user.
func (c *check) membership(u matrix.UserID) event.Membership {
	if m := c.st(memberKey(u)); m != nil {
		return m.Membership()
	}
	return ""
}

// room checks what binds every event to its room.
func (c *check) room() error {
	// v11 rule 2.4 and v12 rule 2: there is a create event, and it is this
	// room's. That it was accepted is what makes it part of the state.
	if c.create == nil {
		return reject(c.roomRule(), "there is no create event")
	}
	if c.create.RoomID != c.ev.RoomID {
		return reject(c.roomRule(), "the create event is of room %s, not of %s", c.create.RoomID, c.ev.RoomID)
	}
	// v11 rule 3: only the creator's server may take part in a room that is
	// not federated.
	if string(canonical.Get(c.create.Content, "m.federate")) == "false" &&
		c.create.Sender.Server() != c.ev.Sender.Server() {
		return reject("3", "the room is not federated, and %s is not on its server", c.ev.Sender)
	}
	return nil
}

func (c *check) roomRule() string {
	if c.v.CreateInAuthEvents {
		return "2.4"
	}
	return "v12:2"
}

// aliases is v1 rule 4: https://spec.matrix.org/v1.19/rooms/v1/#authorisation-rules
func (c *check) aliases() error {
	// v1 rule 4.1.
	if !c.ev.IsState() {
		return reject("v1:4.1", "m.room.aliases is not a state event")
	}
	// v1 rule 4.2.
	if *c.ev.StateKey != string(c.ev.Sender.Server()) {
		return reject("v1:4.2", "%s may not set the aliases of %s", c.ev.Sender, *c.ev.StateKey)
	}
	// v1 rule 4.3.
	return nil
}

// other checks what is neither create nor member event.
func (c *check) other() error {
	ev := c.ev
	// v11 rule 5.
	if m := c.membership(ev.Sender); m != event.Join {
		return reject("5", "%s is not joined", ev.Sender)
	}
	levels := c.power()
	sender := levels.User(ev.Sender)
	// v11 rule 6.1.
	if ev.Type == event.TypeThirdPartyInvite {
		if sender < levels.Invite() {
			return reject("6.1", "%s has level %d, inviting needs %d", ev.Sender, sender, levels.Invite())
		}
		return nil
	}
	// v11 rule 7.
	if need := levels.ForEvent(ev.Type, ev.IsState()); sender < need {
		return reject("7", "%s has level %d, %s needs %d", ev.Sender, sender, ev.Type, need)
	}
	// v11 rule 8.
	if ev.IsState() && len(*ev.StateKey) > 0 && (*ev.StateKey)[0] == '@' && *ev.StateKey != string(ev.Sender) {
		return reject("8", "the state key %s belongs to another user than the sender %s", *ev.StateKey, ev.Sender)
	}
	switch ev.Type {
	case event.TypePowerLevels:
		// v11 rule 9.
		return c.powerLevels()
	case event.TypeRedaction:
		return c.redaction()
	}
	// v11 rule 10.
	return nil
}

// checkCreate is v11 rule 1.
func checkCreate(ev *event.Event) error {
	v := ev.Version
	// Every room has one create event, with an empty state key. The
	// specification leaves that to the look-up of the state.
	if !ev.IsState() || *ev.StateKey != "" {
		return reject("1", "a create event has an empty state key")
	}
	// v11 rule 1.1.
	if len(ev.PrevEvents) > 0 {
		return reject("1.1", "a create event has no prev events")
	}
	if err := checkCreateRoomID(ev); err != nil {
		return err
	}
	// v11 rule 1.3.
	if raw := canonical.Get(ev.Content, "room_version"); raw != nil && !isKnownVersion(raw) {
		return reject("1.3", "room version %s is not known", raw)
	}
	// v1 rule 1.4, gone in v11.
	if v.Creator == event.CreatorInContent && canonical.Get(ev.Content, "creator") == nil {
		return reject("v1:1.4", "the content has no creator")
	}
	// v12 rule 1.4.
	if v.AdditionalCreators && !validCreators(canonical.Get(ev.Content, "additional_creators")) {
		return reject("v12:1.4", "additional_creators is not a list of user IDs")
	}
	// v11 rule 1.4.
	return nil
}

func isKnownVersion(raw []byte) bool {
	s, ok := canonical.String(raw)
	_, known := event.VersionOf(matrix.RoomVersion(s))
	return ok && known
}

// checkCreateRoomID is v11 rule 1.2, which v12 has changed.
func checkCreateRoomID(ev *event.Event) error {
	if ev.Version.RoomIDs == event.CreateHashRoomIDs {
		// v12 rule 1.2.
		if canonical.Get(ev.JSON, "room_id") != nil {
			return reject("v12:1.2", "a create event has no room_id")
		}
		return nil
	}
	// v11 rule 1.2.
	if server, _ := ev.RoomID.Server(); server != ev.Sender.Server() {
		return reject("1.2", "%s is not on the server that room %s is named after", ev.Sender, ev.RoomID)
	}
	return nil
}

// validCreators says whether raw is absent or a list of user IDs.
func validCreators(raw []byte) bool {
	if raw == nil {
		return true
	}
	if raw[0] != '[' {
		return false
	}
	for item := range canonical.Elements(raw) {
		s, ok := canonical.String(item)
		if !ok {
			return false
		}
		if _, err := matrix.ParseUserID(s); err != nil {
			return false
		}
	}
	return true
}
