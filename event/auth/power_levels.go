package auth

import (
	"bytes"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// powerLevels is v11 rule 9: a change of the power levels.
func (c *check) powerLevels() error {
	now := partsOf(c.ev.Content)
	if err := c.levelFormat(&now); err != nil {
		return err
	}
	old := c.st(powerLevelsKey)
	// v11 rule 9.4.
	if old == nil {
		return nil
	}
	ch := change{ev: c.ev, was: partsOf(old.Content), is: now, sender: c.power().User(c.ev.Sender)}
	if err := ch.topLevels(); err != nil {
		return err
	}
	if err := ch.entries("events", ch.was.events, ch.is.events); err != nil {
		return err
	}
	if c.v.NotificationLevels {
		if err := ch.entries("notifications", ch.was.notifications, ch.is.notifications); err != nil {
			return err
		}
	}
	// v11 rule 9.10.
	return ch.users()
}

// levelParts are the parts of the content of power levels, raw; nil if absent.
type levelParts struct {
	top                          [len(topLevels)][]byte
	events, notifications, users []byte
}

// partsOf goes through a content once: it may be long, and of others' making.
func partsOf(content []byte) (p levelParts) {
	for key, raw := range canonical.Fields(content) {
		switch key {
		case "events":
			p.events = raw
		case "notifications":
			p.notifications = raw
		case "users":
			p.users = raw
		default:
			if i := slices.Index(topLevels[:], key); i >= 0 {
				p.top[i] = raw
			}
		}
	}
	return p
}

// levelFormat is v11 rules 9.1 to 9.3, and v12 rule 10.4.
func (c *check) levelFormat(p *levelParts) error {
	// v11 rule 9.1. Versions before 10 leave it open what happens to values
	// that are no levels in any of their forms; nothing sensible can.
	for i, raw := range p.top {
		if raw != nil {
			if _, ok := parseLevel(c.v, raw); !ok {
				return reject("9.1", "%s is not a power level", topLevels[i])
			}
		}
	}
	// v11 rule 9.2. Before version 6 notifications meant nothing.
	if key, ok := c.areLevels(p.events); !ok {
		return reject("9.2", "events is not an object of power levels, see %q", key)
	}
	if c.v.NotificationLevels {
		if key, ok := c.areLevels(p.notifications); !ok {
			return reject("9.2", "notifications is not an object of power levels, see %q", key)
		}
	}
	return c.userFormat(p.users)
}

// userFormat is v11 rule 9.3 and v12 rule 10.4.
func (c *check) userFormat(users []byte) error {
	if key, ok := c.areLevels(users); !ok {
		return reject("9.3", "users is not an object of power levels, see %q", key)
	}
	for u := range canonical.Fields(users) {
		id, err := matrix.ParseUserID(u)
		if err != nil {
			return reject("9.3", "%q in users is not a user ID", u)
		}
		// v12 rule 10.4.
		if c.v.CreatorsOutOfLevels && c.power().IsCreator(id) {
			return reject("v12:10.4", "%s is a creator, whose level cannot be set", id)
		}
	}
	return nil
}

// areLevels says whether raw is absent or an object of power levels, and if
// not, which key is wrong.
func (c *check) areLevels(raw []byte) (key string, ok bool) {
	if raw == nil {
		return "", true
	}
	if raw[0] != '{' {
		return "", false
	}
	for key, value := range canonical.Fields(raw) {
		if _, ok := parseLevel(c.v, value); !ok {
			return key, false
		}
	}
	return "", true
}

// change compares the content of a power levels event with the one before.
type change struct {
	ev      *event.Event
	was, is levelParts
	sender  Level
}

// levelAt is a level that may be absent. An absent one is not the default of
// its name: what is not written cannot be too high.
type levelAt struct {
	level   Level
	present bool
}

func (ch *change) read(raw []byte) levelAt {
	level, ok := parseLevel(ch.ev.Version, raw)
	return levelAt{level, ok}
}

// topLevels is v11 rule 9.5.
func (ch *change) topLevels() error {
	for i, name := range topLevels {
		was, is := ch.read(ch.was.top[i]), ch.read(ch.is.top[i])
		if was == is {
			continue
		}
		// v11 rule 9.5.1.
		if was.present && was.level > ch.sender {
			return reject("9.5.1", "%s is %d, above the sender's level %d", name, was.level, ch.sender)
		}
		// v11 rule 9.5.2.
		if is.present && is.level > ch.sender {
			return reject("9.5.2", "%s would be %d, above the sender's level %d", name, is.level, ch.sender)
		}
	}
	return nil
}

// entries is v11 rules 9.6 and 9.7, for one of the objects they name.
func (ch *change) entries(object string, before, after []byte) error {
	return ch.each(before, after, func(key string, was, is levelAt) error {
		// v11 rule 9.6.1.
		if was.present && was.level > ch.sender {
			return reject("9.6.1", "%q in %s is %d, above the sender's level %d", key, object, was.level, ch.sender)
		}
		// v11 rule 9.7.1.
		if is.present && is.level > ch.sender {
			return reject("9.7.1", "%q in %s would be %d, above the sender's level %d", key, object, is.level, ch.sender)
		}
		return nil
	})
}

// users is v11 rules 9.8 and 9.9.
func (ch *change) users() error {
	return ch.each(ch.was.users, ch.is.users, func(user string, was, is levelAt) error {
		// v11 rule 9.8.1.
		if was.present && was.level >= ch.sender && user != string(ch.ev.Sender) {
			return reject("9.8.1", "%s has level %d, not below the sender's %d", user, was.level, ch.sender)
		}
		// v11 rule 9.9.1.
		if is.present && is.level > ch.sender {
			return reject("9.9.1", "%s would have level %d, above the sender's %d", user, is.level, ch.sender)
		}
		return nil
	})
}

// each calls f for every entry of an object that was added, changed or removed,
// first those that were there before.
func (ch *change) each(old, now []byte, f func(key string, was, is levelAt) error) error {
	if bytes.Equal(old, now) {
		return nil // mostly most of them
	}
	was, is := ch.levels(old), ch.levels(now)
	for key, raw := range canonical.Fields(old) {
		if before, after := ch.read(raw), is[key]; before != after {
			if err := f(key, before, after); err != nil {
				return err
			}
		}
	}
	for key, raw := range canonical.Fields(now) {
		if _, before := was[key]; !before {
			if err := f(key, levelAt{}, ch.read(raw)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (ch *change) levels(object []byte) map[string]levelAt {
	m := make(map[string]levelAt)
	for key, raw := range canonical.Fields(object) {
		m[key] = ch.read(raw)
	}
	return m
}

// redaction is v1 rule 11, gone in v3: see MayRedact.
func (c *check) redaction() error {
	if !c.v.RedactionRule {
		return nil
	}
	ev, levels := c.ev, c.power()
	// v1 rule 11.1.
	if levels.User(ev.Sender) >= levels.Redact() {
		return nil
	}
	// v1 rule 11.2.
	own, _ := ev.ID.Server()
	if target, ok := ev.Redacts.Server(); ok && target == own {
		return nil
	}
	// v1 rule 11.3.
	return reject("v1:11.3", "%s has level %d, redacting needs %d", ev.Sender, levels.User(ev.Sender), levels.Redact())
}

// MayRedact says whether an accepted redaction takes effect on target, given
// the power levels in the state before the redaction. In versions 1 and 2 the
// authorisation rules have decided that already.
// https://spec.matrix.org/v1.19/rooms/v11/#handling-redactions
func MayRedact(redaction, target *event.Event, levels *PowerLevels) bool {
	if redaction.Type != event.TypeRedaction || redaction.Redacts != target.ID ||
		redaction.RoomID != target.RoomID || redaction.ID == target.ID {
		return false
	}
	return redaction.Version.RedactionRule ||
		levels.User(redaction.Sender) >= levels.Redact() ||
		redaction.Sender.Server() == target.Sender.Server()
}
