package roomserver_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// ask answers what stands before the colon of a claim.
func (p *play) ask(line string) string {
	args := words(line)
	room := p.room
	if what, where, elsewhere := strings.Cut(args[0], "@"); elsewhere {
		args[0], room = what, p.roomNamed(where)
	}
	ask, ok := asks[args[0]]
	if !ok {
		return "no such question"
	}
	answer, err := ask(p, room, args[1:])
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(p.named(answer), p.suffix, "~")
}

// named puts names in the place of the IDs of events.
func (p *play) named(text string) string {
	for name, id := range p.events {
		text = strings.ReplaceAll(text, string(id), name)
	}
	return text
}

type question func(p *play, room matrix.RoomID, args []string) (string, error)

func content(typ string, path ...string) question {
	return func(p *play, room matrix.RoomID, _ []string) (string, error) {
		return p.stateText(room, event.Key{Type: typ}, path...)
	}
}

var asks = map[string]question{
	"name":      content("m.room.name", "name"),
	"topic":     content("m.room.topic", "topic"),
	"alias":     content("m.room.canonical_alias", "alias"),
	"join_rule": content("m.room.join_rules", "join_rule"),
	"content":   (*play).askContent,
	"member":    (*play).askMember,
	"history":   (*play).askHistory,
	"stripped":  (*play).askStripped,
	"counts":    (*play).askCounts,
	"timeline":  (*play).askTimeline,
	"event":     (*play).askEvent,
	"receipts":  (*play).askReceipts,
	"aliases":   (*play).askAliases,
	"directory": (*play).askDirectory,
	"published": func(p *play, room matrix.RoomID, _ []string) (string, error) {
		public, err := p.server.Visibility(p.ctx, room)
		return fmt.Sprint(public), err
	},
	"version": func(p *play, room matrix.RoomID, _ []string) (string, error) {
		r, err := p.server.Room(p.ctx, room)
		return string(r.Version.ID), err
	},
}

func (p *play) stateEvent(room matrix.RoomID, key event.Key) (*rooms.Event, error) {
	state, err := p.server.Current(p.ctx, room)
	if err != nil {
		return nil, err
	}
	return state.Event(p.ctx, key)
}

func (p *play) stateText(room matrix.RoomID, key event.Key, path ...string) (string, error) {
	ev, err := p.stateEvent(room, key)
	if err != nil || ev == nil {
		return "unset", err
	}
	raw := canonical.Get(ev.Content, path...)
	if text, ok := canonical.String(raw); ok {
		return text, nil
	}
	if raw == nil {
		return "unset", nil
	}
	return string(raw), nil
}

// content TYPE [PATH...]
func (p *play) askContent(room matrix.RoomID, args []string) (string, error) {
	ev, err := p.stateEvent(room, event.Key{Type: args[0]})
	switch {
	case err != nil:
		return "", err
	case ev == nil:
		return "unset", nil
	case len(args) == 1:
		return string(ev.Content), nil
	}
	return p.stateText(room, event.Key{Type: args[0]}, args[1:]...)
}

// member USER: what the state, the table of members and the history say, if they agree.
func (p *play) askMember(room matrix.RoomID, args []string) (string, error) {
	key := event.Key{Type: "m.room.member", StateKey: string(user(args[0]))}
	if len(args) > 1 {
		return p.stateText(room, key, args[1:]...)
	}
	byState, err := p.stateText(room, key, "membership")
	if err != nil {
		return "", err
	}
	r, err := p.server.Room(p.ctx, room)
	if err != nil {
		return "", err
	}
	m, found, err := rooms.MembershipOf(p.ctx, p.settings.DB, r.Num, user(args[0]))
	if err != nil {
		return "", err
	}
	if !found {
		m.Membership = "unset"
	}
	if byState != string(m.Membership) {
		return fmt.Sprintf("%s by the state, %s by the table", byState, m.Membership), nil
	}
	if m.Forgotten {
		byState += " forgotten"
	}
	return byState, nil
}

func (p *play) askHistory(room matrix.RoomID, args []string) (string, error) {
	r, err := p.server.Room(p.ctx, room)
	if err != nil {
		return "", err
	}
	history, err := rooms.MembershipHistory(p.ctx, p.settings.DB, r, user(args[0]))
	var all []string
	for _, m := range history {
		all = append(all, string(m.Membership))
	}
	return strings.Join(all, " "), err
}

// stripped USER: the types of the state that came with an invite or a knock.
func (p *play) askStripped(room matrix.RoomID, args []string) (string, error) {
	r, err := p.server.Room(p.ctx, room)
	if err != nil {
		return "", err
	}
	m, _, err := rooms.MembershipOf(p.ctx, p.settings.DB, r.Num, user(args[0]))
	if err != nil {
		return "", err
	}
	var types []string
	for each := range canonical.Elements(m.Stripped) {
		typ, _ := canonical.String(canonical.Get(each, "type"))
		types = append(types, strings.TrimPrefix(typ, "m.room."))
	}
	return strings.Join(types, " "), nil
}

// counts: joined and invited members, as the head has them, if a count of the table agrees.
func (p *play) askCounts(room matrix.RoomID, _ []string) (string, error) {
	r, err := p.server.Room(p.ctx, room)
	if err != nil {
		return "", err
	}
	head, _, err := rooms.HeadOf(p.ctx, p.settings.DB, r.Num)
	if err != nil {
		return "", err
	}
	joined, err := rooms.MembersOf(p.ctx, p.settings.DB, r.Num, event.Join)
	if err != nil {
		return "", err
	}
	invited, err := rooms.MembersOf(p.ctx, p.settings.DB, r.Num, event.Invite)
	if int64(len(joined)) != head.Joined || int64(len(invited)) != head.Invited {
		return fmt.Sprintf("head %d %d, table %d %d", head.Joined, head.Invited, len(joined), len(invited)), err
	}
	return fmt.Sprintf("%d joined %d invited", head.Joined, head.Invited), err
}

// timeline: the types of all events, oldest first; of messages, what they say.
func (p *play) askTimeline(room matrix.RoomID, _ []string) (string, error) {
	r, err := p.server.Room(p.ctx, room)
	if err != nil {
		return "", err
	}
	events, err := rooms.Page(p.ctx, p.settings.DB, r, rooms.PageQuery{Limit: 1000})
	var all []string
	for _, ev := range events {
		if body, ok := canonical.String(canonical.Get(ev.Content, "body")); ok {
			all = append(all, body)
			continue
		}
		all = append(all, strings.TrimPrefix(ev.Type, "m.room."))
	}
	return strings.Join(all, " "), err
}

// event NAME: its content, and by what it was redacted.
func (p *play) askEvent(room matrix.RoomID, args []string) (string, error) {
	r, err := p.server.Room(p.ctx, room)
	if err != nil {
		return "", err
	}
	ev, found, err := rooms.EventByID(p.ctx, p.settings.DB, r, p.events[args[0]])
	if err != nil || !found {
		return "unknown", err
	}
	cached, err := p.server.Events(p.ctx, r, []int64{ev.Num})
	if err != nil {
		return "", err
	}
	if string(cached[0].Content) != string(ev.Content) {
		return fmt.Sprintf("cached %s, stored %s", cached[0].Content, ev.Content), nil
	}
	if ev.RedactedBy == 0 {
		return string(ev.Content), nil
	}
	by, err := rooms.EventsByNumber(p.ctx, p.settings.DB, r, []int64{ev.RedactedBy})
	if err != nil || len(by) != 1 {
		return "redacted by something unknown", err
	}
	return string(ev.Content) + " redacted by " + string(by[0].Sender.Localpart()), nil
}

func (p *play) askReceipts(room matrix.RoomID, args []string) (string, error) {
	r, err := p.server.Room(p.ctx, room)
	if err != nil {
		return "", err
	}
	all, err := rooms.ReceiptsOfUser(p.ctx, p.settings.DB, r.Num, user(args[0]))
	var texts []string
	for _, receipt := range all {
		texts = append(texts, p.named(strings.TrimSpace(receipt.Type+" "+string(receipt.Event)+" "+receipt.Thread)))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", "), err
}

// aliases [of NAME]: those of the room; or which room an alias leads to.
func (p *play) askAliases(room matrix.RoomID, args []string) (string, error) {
	all, err := p.server.Aliases(p.ctx, as(args[0]), room)
	var texts []string
	for _, alias := range all {
		to, _, err := p.server.ResolveAlias(p.ctx, alias)
		if err != nil || to != room {
			return "", errors.Join(err, fmt.Errorf("%s leads to %s", alias, to))
		}
		texts = append(texts, string(alias))
	}
	return strings.Join(texts, " "), err
}

// directory TERM [type]: the names of the rooms found.
func (p *play) askDirectory(_ matrix.RoomID, args []string) (string, error) {
	ask := roomserver.DirectoryQuery{Term: p.expand(args[0])}
	if len(args) > 1 {
		kind := &args[1]
		if args[1] == "null" {
			kind = nil
		}
		ask.RoomTypes = []*string{kind}
	}
	page, err := p.server.Directory(p.ctx, ask)
	var names []string
	for _, r := range page.Rooms {
		names = append(names, fmt.Sprintf("%s/%d", r.Name, r.Joined))
	}
	return strings.Join(names, " "), err
}
