package auth

import "github.com/myelin-chat/myelin/event"

// Essence returns what of an event this package looks at, for who has to keep
// very many: [AppendNeeded], [Check] and [Levels] say the same of it as of the
// event. All else is missing. The content is still a part of the event's JSON:
// who wants to let go of that copies it.
func Essence(ev *event.Event) (e event.Event) {
	e = *ev
	e.AuthEvents = nil
	switch ev.Type {
	case event.TypeCreate:
		return e // there is one in a room, and v12 rule 1.2 looks at its JSON
	case event.TypeMember:
		if len(e.PrevEvents) != 1 { // v11 rule 4.3.1
			e.PrevEvents = nil
		}
		if target := ev.Target(); target == e.Sender {
			e.Sender = target // the same text, once
		}
	case event.TypePowerLevels, event.TypeJoinRules, event.TypeThirdPartyInvite:
		e.PrevEvents = nil
	default:
		e.PrevEvents, e.Content = nil, nil
	}
	e.JSON = nil
	return e
}
