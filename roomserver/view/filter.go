package view

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// Limits of a filter.
const (
	DefaultTimelineLimit = 10   // events a room, if the filter says nothing
	MaxTimelineLimit     = 1000 // events a room or page, whatever it says
	maxFilterEntries     = 4096 // names in any one list
)

// Filter says what of a sync a client wants.
// https://spec.matrix.org/v1.19/client-server-api/#filtering
type Filter struct {
	AccountData EventFilter `json:"account_data"`
	Presence    EventFilter `json:"presence"`
	Room        RoomFilter  `json:"room"`
	EventFields []string    `json:"event_fields"`
	EventFormat string      `json:"event_format"` // "client" or "federation"
}

// RoomFilter is the part of a Filter about rooms.
type RoomFilter struct {
	Rooms        *[]matrix.RoomID `json:"rooms"`
	NotRooms     []matrix.RoomID  `json:"not_rooms"`
	IncludeLeave bool             `json:"include_leave"`
	AccountData  RoomEventFilter  `json:"account_data"`
	Ephemeral    RoomEventFilter  `json:"ephemeral"`
	State        RoomEventFilter  `json:"state"`
	Timeline     RoomEventFilter  `json:"timeline"`
}

// EventFilter selects events by type and sender. A list that is absent selects
// everything; an empty one nothing. What is in a not_ list is never selected.
type EventFilter struct {
	Limit      *int             `json:"limit"`
	Types      *[]string        `json:"types"`
	NotTypes   []string         `json:"not_types"`
	Senders    *[]matrix.UserID `json:"senders"`
	NotSenders []matrix.UserID  `json:"not_senders"`
}

// RoomEventFilter selects events of rooms.
type RoomEventFilter struct {
	EventFilter
	Rooms                     *[]matrix.RoomID `json:"rooms"`
	NotRooms                  []matrix.RoomID  `json:"not_rooms"`
	ContainsURL               *bool            `json:"contains_url"`
	LazyLoadMembers           bool             `json:"lazy_load_members"`
	IncludeRedundantMembers   bool             `json:"include_redundant_members"`
	UnreadThreadNotifications bool             `json:"unread_thread_notifications"`
}

// ParseFilter reads a filter as a client sends it. The error is M_BAD_JSON or M_NOT_JSON.
func ParseFilter(raw []byte) (*Filter, error) {
	f := &Filter{}
	if err := decode(raw, f); err != nil {
		return nil, err
	}
	if f.EventFormat != "" && f.EventFormat != "client" && f.EventFormat != "federation" {
		return nil, matrix.Errorf(matrix.BadJSON, "event_format must be client or federation, not %q", f.EventFormat)
	}
	if len(f.EventFields) > maxFilterEntries {
		return nil, matrix.Errorf(matrix.BadJSON, "event_fields names more than %d fields", maxFilterEntries)
	}
	for name, part := range map[string]*RoomEventFilter{
		"room.account_data": &f.Room.AccountData, "room.ephemeral": &f.Room.Ephemeral,
		"room.state": &f.Room.State, "room.timeline": &f.Room.Timeline,
		"account_data": {EventFilter: f.AccountData}, "presence": {EventFilter: f.Presence},
	} {
		if err := part.check(name); err != nil {
			return nil, err
		}
	}
	return f, checkRooms("room", f.Room.Rooms, f.Room.NotRooms)
}

// ParseRoomEventFilter reads the filter parameter of /messages, /context and the like.
func ParseRoomEventFilter(raw []byte) (*RoomEventFilter, error) {
	f := &RoomEventFilter{}
	if err := decode(raw, f); err != nil {
		return nil, err
	}
	return f, f.check("filter")
}

func decode(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	if wrong, ok := err.(*json.UnmarshalTypeError); ok {
		return matrix.Errorf(matrix.BadJSON, "filter: %s must not be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return matrix.Errorf(matrix.NotJSON, "filter is not JSON: %s", err)
	}
	return nil
}

// check finds what the specification forbids in one part of a filter.
func (f *RoomEventFilter) check(name string) error {
	if f.Limit != nil && *f.Limit < 0 {
		return matrix.Errorf(matrix.BadJSON, "%s.limit must not be negative", name)
	}
	senders := f.NotSenders
	if f.Senders != nil {
		senders = slices.Concat(senders, *f.Senders)
	}
	for _, u := range senders {
		if _, err := matrix.ParseUserID(string(u)); err != nil {
			return matrix.Errorf(matrix.BadJSON, "%s: %q is not a user ID", name, u)
		}
	}
	lists := len(senders) + len(f.NotTypes)
	if f.Types != nil {
		lists += len(*f.Types)
	}
	if lists > maxFilterEntries {
		return matrix.Errorf(matrix.BadJSON, "%s names more than %d types and senders", name, maxFilterEntries)
	}
	return checkRooms(name, f.Rooms, f.NotRooms)
}

func checkRooms(name string, in *[]matrix.RoomID, out []matrix.RoomID) error {
	all := out
	if in != nil {
		all = slices.Concat(all, *in)
	}
	if len(all) > maxFilterEntries {
		return matrix.Errorf(matrix.BadJSON, "%s names more than %d rooms", name, maxFilterEntries)
	}
	for _, r := range all {
		if _, err := matrix.ParseRoomID(string(r)); err != nil {
			return matrix.Errorf(matrix.BadJSON, "%s: %q is not a room ID", name, r)
		}
	}
	return nil
}

// TimelineLimit is how many events of a timeline f asks for, within bounds.
func (f *EventFilter) TimelineLimit() int {
	if f.Limit == nil {
		return DefaultTimelineLimit
	}
	return min(*f.Limit, MaxTimelineLimit)
}

// WantsRoom says whether f selects events of room at all.
func (f *RoomEventFilter) WantsRoom(room matrix.RoomID) bool {
	return wantsRoom(f.Rooms, f.NotRooms, room)
}

// Wants says whether f selects a room for the whole sync.
func (f *RoomFilter) Wants(room matrix.RoomID) bool {
	return wantsRoom(f.Rooms, f.NotRooms, room)
}

func wantsRoom(in *[]matrix.RoomID, out []matrix.RoomID, room matrix.RoomID) bool {
	return !slices.Contains(out, room) && (in == nil || slices.Contains(*in, room))
}

// Wants says whether f selects what has this type and sender. An empty sender
// stands for "none", as account data has.
func (f *EventFilter) Wants(typ string, sender matrix.UserID) bool {
	matches := func(pattern string) bool { return wildcard(pattern, typ) }
	switch {
	case slices.ContainsFunc(f.NotTypes, matches):
		return false
	case f.Types != nil && !slices.ContainsFunc(*f.Types, matches):
		return false
	case slices.Contains(f.NotSenders, sender):
		return false
	}
	return f.Senders == nil || slices.Contains(*f.Senders, sender)
}

// WantsEvent says whether f selects e, leaving its room aside.
func (f *RoomEventFilter) WantsEvent(e *event.Event) bool {
	if !f.Wants(e.Type, e.Sender) {
		return false
	}
	if f.ContainsURL == nil {
		return true
	}
	_, isText := canonical.String(canonical.Get(e.Content, "url"))
	return isText == *f.ContainsURL
}

// All says whether f selects every event of a room it wants.
func (f *RoomEventFilter) All() bool {
	return f.Types == nil && len(f.NotTypes) == 0 && f.Senders == nil &&
		len(f.NotSenders) == 0 && f.ContainsURL == nil
}

// wildcard matches name against a pattern in which "*" stands for any text. It
// takes time proportional to the product of the lengths at worst.
func wildcard(pattern, name string) bool {
	head, rest, found := strings.Cut(pattern, "*")
	if !found {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, head)
	if !ok {
		return false
	}
	pieces := strings.Split(rest, "*")
	last := len(pieces) - 1
	for _, piece := range pieces[:last] {
		at := strings.Index(name, piece)
		if at < 0 {
			return false
		}
		name = name[at+len(piece):]
	}
	return strings.HasSuffix(name, pieces[last])
}
