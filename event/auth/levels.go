package auth

import (
	"math"
	"strconv"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// Level is a power level. Levels are compared as numbers; Infinite is more
// than any that an event can give.
type Level int64

// Infinite is the level of creators from room version 12 on.
const Infinite Level = math.MaxInt64

// The levels where an m.room.power_levels event does not say otherwise.
// https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels
const (
	defaultInvite       Level = 0
	defaultKick         Level = 50
	defaultBan          Level = 50
	defaultRedact       Level = 50
	defaultState        Level = 50
	defaultEvents       Level = 0
	defaultUsers        Level = 0
	defaultNotification Level = 50
	creatorLevel        Level = 100 // without power levels event, before version 12
)

// PowerLevels is what a room's create and power levels events say of power,
// parsed once. It is immutable, and may be kept for as long as these two
// events are the state: see CheckWith. The zero value belongs to no room.
type PowerLevels struct {
	create, source *event.Event // what it was parsed from

	creators []matrix.UserID
	infinite bool
	named    [len(topLevels)]Level
	users    map[string]Level
	events   map[string]Level
	notify   map[string]Level
}

// The seven levels that stand at the top of the content.
const (
	usersDefault = iota
	eventsDefault
	stateDefault
	ban
	redact
	kick
	invite
)

var topLevels = [...]string{"users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"}

var topDefaults = [...]Level{defaultUsers, defaultEvents, defaultState, defaultBan, defaultRedact, defaultKick, defaultInvite}

// Levels parses the power levels of a room from its create event and its
// power levels event, either of which may be nil. A value that its room
// version does not allow counts as absent.
func Levels(v *event.Version, create, powerLevels *event.Event) PowerLevels {
	l := PowerLevels{
		create: create, source: powerLevels, named: topDefaults,
		creators: Creators(v, create), infinite: v.CreatorPower == event.CreatorInfinite,
	}
	if powerLevels == nil {
		if !l.infinite {
			l.users = make(map[string]Level, len(l.creators))
			for _, u := range l.creators {
				l.users[string(u)] = creatorLevel
			}
		}
		return l
	}
	for key, raw := range canonical.Fields(powerLevels.Content) {
		switch key {
		case "users":
			l.users = levelMap(v, raw)
		case "events":
			l.events = levelMap(v, raw)
		case "notifications":
			l.notify = levelMap(v, raw)
		default:
			l.setTop(v, key, raw)
		}
	}
	return l
}

func (l *PowerLevels) setTop(v *event.Version, key string, raw []byte) {
	for i, name := range topLevels {
		if name != key {
			continue
		}
		if level, ok := parseLevel(v, raw); ok {
			l.named[i] = level
		}
		return
	}
}

// levelMap reads an object of levels, leaving out what is not one.
func levelMap(v *event.Version, raw []byte) map[string]Level {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	m := make(map[string]Level)
	for key, value := range canonical.Fields(raw) {
		if level, ok := parseLevel(v, value); ok {
			m[key] = level
		}
	}
	return m
}

// User returns the level of a user, member or not.
func (l *PowerLevels) User(u matrix.UserID) Level {
	if l.infinite && l.IsCreator(u) {
		return Infinite
	}
	if level, ok := l.users[string(u)]; ok {
		return level
	}
	return l.named[usersDefault]
}

// IsCreator says whether u is one of the creators of the room.
func (l *PowerLevels) IsCreator(u matrix.UserID) bool {
	for _, c := range l.creators {
		if c == u {
			return true
		}
	}
	return false
}

// ForEvent returns the level needed to send events of a type.
func (l *PowerLevels) ForEvent(typ string, isState bool) Level {
	if level, ok := l.events[typ]; ok {
		return level
	}
	if isState {
		return l.named[stateDefault]
	}
	return l.named[eventsDefault]
}

// Invite returns the level needed to invite.
func (l *PowerLevels) Invite() Level { return l.named[invite] }

// Kick returns the level needed to remove a user.
func (l *PowerLevels) Kick() Level { return l.named[kick] }

// Ban returns the level needed to ban and to lift a ban.
func (l *PowerLevels) Ban() Level { return l.named[ban] }

// Redact returns the level needed to redact events of others.
func (l *PowerLevels) Redact() Level { return l.named[redact] }

// StateDefault returns the level for state events that are not listed.
func (l *PowerLevels) StateDefault() Level { return l.named[stateDefault] }

// EventsDefault returns the level for other events that are not listed.
func (l *PowerLevels) EventsDefault() Level { return l.named[eventsDefault] }

// UsersDefault returns the level of users that are not listed.
func (l *PowerLevels) UsersDefault() Level { return l.named[usersDefault] }

// Notification returns the level needed to notify by a keyword, such as
// "room" for "@room".
// https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels
func (l *PowerLevels) Notification(name string) Level {
	if level, ok := l.notify[name]; ok {
		return level
	}
	return defaultNotification
}

// Creators returns the users that count as creators of the room that create
// began.
func Creators(v *event.Version, create *event.Event) []matrix.UserID {
	if create == nil {
		return nil
	}
	if v.Creator == event.CreatorInContent {
		if s, ok := canonical.String(canonical.Get(create.Content, "creator")); ok {
			return []matrix.UserID{matrix.UserID(s)}
		}
		return nil
	}
	creators := []matrix.UserID{create.Sender}
	if !v.AdditionalCreators {
		return creators
	}
	for raw := range canonical.Elements(canonical.Get(create.Content, "additional_creators")) {
		if s, ok := canonical.String(raw); ok {
			creators = append(creators, matrix.UserID(s))
		}
	}
	return creators
}

// parseLevel reads a power level as the room version allows it to be written.
// https://spec.matrix.org/v1.19/rooms/v1/#deprecated-event-content-schemas
func parseLevel(v *event.Version, raw []byte) (Level, bool) {
	if n, ok := canonical.Int(raw); ok {
		return Level(n), true
	}
	if len(raw) == 0 || v.Levels == event.IntegerLevels {
		return 0, false
	}
	if raw[0] == '"' {
		s, _ := canonical.String(raw)
		return parseStringLevel(s)
	}
	if v.Levels == event.LooseLevels && (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9') {
		return parseFloatLevel(string(raw))
	}
	return 0, false
}

// parseStringLevel reads a level such as " +0100 ".
func parseStringLevel(s string) (Level, bool) {
	// ParseInt takes exactly one sign and decimal digits.
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return Level(n), err == nil
}

// parseFloatLevel truncates a float at its decimal point. What does not fit
// 64 bits is no level: no number is near it that anybody meant.
func parseFloatLevel(s string) (Level, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(f) >= 1<<63 {
		return 0, false
	}
	return Level(f), true // conversion truncates
}
