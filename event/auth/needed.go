package auth

import (
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// Needed returns the places in the state that authorise an event, each once:
// those that exist are its auth events, and what Check looks at. In room
// version 12 the create event is not among them, although Check asks for it.
// The content must be canonical JSON.
// https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection
func Needed(v *event.Version, typ, stateKey string, sender matrix.UserID, content []byte) []event.Key {
	if typ == event.TypeCreate {
		return nil
	}
	return claim{v, typ, stateKey, sender, content}.appendNeeded(make([]event.Key, 0, 6))
}

// AppendNeeded is [Needed] for a state event, and appends to keys.
func AppendNeeded(keys []event.Key, ev *event.Event) []event.Key {
	return claim{ev.Version, ev.Type, *ev.StateKey, ev.Sender, ev.Content}.appendNeeded(keys)
}

// claim is what the selection of auth events looks at.
type claim struct {
	v             *event.Version
	typ, stateKey string
	sender        matrix.UserID
	content       []byte
}

func (c claim) appendNeeded(keys []event.Key) []event.Key {
	if c.typ == event.TypeCreate {
		return keys
	}
	if c.v.CreateInAuthEvents {
		keys = append(keys, createKey)
	}
	keys = append(keys, powerLevelsKey, memberKey(c.sender))
	if c.typ == event.TypeMember {
		keys = c.appendMemberKeys(keys)
	}
	return keys
}

// appendMemberKeys appends what else authorises a member event.
func (c claim) appendMemberKeys(keys []event.Key) []event.Key {
	keys = appendKey(keys, memberKey(matrix.UserID(c.stateKey)))
	// A string has one canonical form, so its raw text can be compared.
	switch string(canonical.Get(c.content, "membership")) {
	case `"join"`:
		keys = append(keys, joinRulesKey)
		if !c.v.RestrictedJoins {
			break
		}
		if via, ok := canonical.String(canonical.Get(c.content, "join_authorised_via_users_server")); ok {
			keys = appendKey(keys, memberKey(matrix.UserID(via)))
		}
	case `"invite"`:
		keys = append(keys, joinRulesKey)
		if token, ok := canonical.String(canonical.Get(c.content, "third_party_invite", "signed", "token")); ok {
			keys = append(keys, event.Key{Type: event.TypeThirdPartyInvite, StateKey: token})
		}
	case `"knock"`:
		keys = append(keys, joinRulesKey)
	}
	return keys
}

func appendKey(keys []event.Key, k event.Key) []event.Key {
	if slices.Contains(keys, k) {
		return keys
	}
	return append(keys, k)
}

// CheckAuthEvents checks what an event says of its own authorisation: v11 rule
// 2, and that the signature of v11 rule 4.2 is there. authEvents are the
// events that ev names as its auth events; rejected says which of these this
// server has rejected. It holds whatever the state is, so once is enough.
func CheckAuthEvents(ev *event.Event, authEvents []*event.Event, rejected func(*event.Event) bool) error {
	stateKey := ""
	if ev.IsState() {
		stateKey = *ev.StateKey
	}
	needed := Needed(ev.Version, ev.Type, stateKey, ev.Sender, ev.Content)
	have := make([]event.Key, 0, len(authEvents))
	for _, a := range authEvents {
		key := a.StateID()
		// v11 rule 2.1.
		if slices.Contains(have, key) {
			return reject("2.1", "two auth events are of type %s with the state key %q", key.Type, key.StateKey)
		}
		have = append(have, key)
		// v11 rule 2.2.
		if !a.IsState() || !slices.Contains(needed, key) {
			return reject("2.2", "auth event %s of type %s does not authorise this event", a.ID, a.Type)
		}
		// v11 rule 2.3.
		if rejected != nil && rejected(a) {
			return reject("2.3", "auth event %s was rejected", a.ID)
		}
		// v11 rule 2.5.
		if a.RoomID != ev.RoomID {
			return reject("2.5", "auth event %s is of room %s", a.ID, a.RoomID)
		}
	}
	// v11 rule 2.4.
	if ev.Version.CreateInAuthEvents && ev.Type != event.TypeCreate && !slices.Contains(have, createKey) {
		return reject("2.4", "there is no create event among the auth events")
	}
	// v11 rule 4.2.1.
	if via, ok := ev.JoinAuthoriser(); ok && (via == "" || len(ev.SignedBy(via.Server())) == 0) {
		return reject("4.2.1", "the server of %s, who vouches for the join, has not signed it", via)
	}
	return nil
}
