// Package pushrules has the rules that decide what a user is notified of. So far it holds the rules that every user
// starts with.
//
// https://spec.matrix.org/v1.19/client-server-api/#push-rules
package pushrules

import (
	"encoding/json"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// Ruleset is the rules of a user by kind, each kind in order of priority.
type Ruleset struct {
	Override  []Rule `json:"override"`
	Content   []Rule `json:"content"`
	Room      []Rule `json:"room"`
	Sender    []Rule `json:"sender"`
	Underride []Rule `json:"underride"`
}

// Rule says what to do with the events that match all its conditions.
type Rule struct {
	ID         string      `json:"rule_id"`
	Default    bool        `json:"default"`
	Enabled    bool        `json:"enabled"`
	Conditions []Condition `json:"conditions"`
	Actions    []Action    `json:"actions"`
}

// Condition is one test of an event. Which fields count depends on the kind.
// https://spec.matrix.org/v1.19/client-server-api/#conditions
type Condition struct {
	Kind    string  `json:"kind"`
	Key     string  `json:"key,omitempty"`
	Pattern *string `json:"pattern,omitempty"` // event_match
	Value   any     `json:"value,omitempty"`   // event_property_is, event_property_contains
	Is      string  `json:"is,omitempty"`      // room_member_count
}

// Action is what a matching rule does: to notify, or to set a tweak of the notification.
// https://spec.matrix.org/v1.19/client-server-api/#actions
type Action struct {
	Tweak string // empty: notify
	Value string // of the tweak; empty: the tweak's own default
}

// Notify is the action that makes a notification.
var Notify = Action{}

// MarshalJSON writes a tweak as an object, and notify as a string.
func (a Action) MarshalJSON() ([]byte, error) {
	if a == Notify {
		return []byte(`"notify"`), nil
	}
	return json.Marshal(struct {
		Tweak string `json:"set_tweak"`
		Value string `json:"value,omitempty"`
	}{a.Tweak, a.Value})
}

// Default returns the rules that user starts with.
// https://spec.matrix.org/v1.19/client-server-api/#predefined-rules
func Default(user matrix.UserID) Ruleset {
	ring, sound, highlight := Action{"sound", "ring"}, Action{"sound", "default"}, Action{Tweak: "highlight"}
	return Ruleset{
		Override: []Rule{
			disabled(rule(".m.rule.master", nil)),
			rule(".m.rule.suppress_notices", when(match("content.msgtype", "m.notice"))),
			rule(".m.rule.invite_for_me", when(
				match("type", "m.room.member"), match("content.membership", "invite"), match("state_key", string(user)),
			), Notify, sound),
			rule(".m.rule.member_event", when(match("type", "m.room.member"))),
			rule(".m.rule.is_user_mention", when(
				Condition{Kind: "event_property_contains", Key: `content.m\.mentions.user_ids`, Value: string(user)},
			), Notify, sound, highlight),
			rule(".m.rule.is_room_mention", when(
				Condition{Kind: "event_property_is", Key: `content.m\.mentions.room`, Value: true},
				Condition{Kind: "sender_notification_permission", Key: "room"},
			), Notify, highlight),
			rule(".m.rule.tombstone", when(match("type", "m.room.tombstone"), match("state_key", "")), Notify, highlight),
			rule(".m.rule.reaction", when(match("type", "m.reaction"))),
			rule(".m.rule.room.server_acl", when(match("type", "m.room.server_acl"), match("state_key", ""))),
			rule(".m.rule.suppress_edits", when(
				Condition{Kind: "event_property_is", Key: `content.m\.relates_to.rel_type`, Value: "m.replace"},
			)),
		},
		Content: []Rule{},
		Room:    []Rule{},
		Sender:  []Rule{},
		Underride: []Rule{
			rule(".m.rule.call", when(match("type", "m.call.invite")), Notify, ring),
			rule(".m.rule.encrypted_room_one_to_one", when(twoMembers, match("type", "m.room.encrypted")), Notify, sound),
			rule(".m.rule.room_one_to_one", when(twoMembers, match("type", "m.room.message")), Notify, sound),
			rule(".m.rule.message", when(match("type", "m.room.message")), Notify),
			rule(".m.rule.encrypted", when(match("type", "m.room.encrypted")), Notify),
		},
	}
}

// DefaultContent returns the content of m.push_rules with the rules that user starts with, as canonical JSON.
// https://spec.matrix.org/v1.19/client-server-api/#push-rules-events
func DefaultContent(user matrix.UserID) []byte {
	content, _ := canonical.Marshal(map[string]Ruleset{"global": Default(user)}) // texts and booleans: cannot fail
	return content
}

func rule(id string, conditions []Condition, actions ...Action) Rule {
	if conditions == nil {
		conditions = []Condition{}
	}
	if actions == nil {
		actions = []Action{}
	}
	return Rule{ID: id, Default: true, Enabled: true, Conditions: conditions, Actions: actions}
}

func disabled(r Rule) Rule {
	r.Enabled = false
	return r
}

func when(conditions ...Condition) []Condition { return conditions }

func match(key, pattern string) Condition {
	return Condition{Kind: "event_match", Key: key, Pattern: &pattern}
}

var twoMembers = Condition{Kind: "room_member_count", Is: "2"}
