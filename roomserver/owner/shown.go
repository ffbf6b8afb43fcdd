package owner

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// MaxStrippedBytes bounds what an invite or a knock tells of its room, beside its own event. What is beyond it is left
// out.
const MaxStrippedBytes = 128 << 10

// strippedState is what the target of an invite or a knock may know of the room: a JSON array that ends
// with the event itself. State that would make it too long is left out.
func (st *Step) strippedState(ctx context.Context, ev *rooms.Event) ([]byte, error) {
	keys := event.StrippedKeys()
	if ev.Sender != ev.Target() {
		keys = append(keys, event.MemberKey(ev.Sender))
	}
	found, err := st.knownIn(ctx, st.tip.state, keys)
	if err != nil {
		return nil, err
	}
	b := []byte{'['}
	for _, state := range found {
		if state == nil {
			continue
		}
		if longer := append(state.Event.AppendStripped(b), ','); len(longer) <= MaxStrippedBytes {
			b = longer
		}
	}
	return append(ev.Event.AppendStripped(b), ']'), nil
}

// directoryTypes is the state that the directory shows.
var directoryTypes = map[string]bool{
	event.TypeCreate: true, event.TypeJoinRules: true, event.TypeHistoryVisibility: true,
	event.TypeName: true, event.TypeTopic: true, event.TypeCanonicalAlias: true, event.TypeAvatar: true, event.TypeGuestAccess: true,
}

// directoryEntry is what the directory is to show of the room.
func (st *Step) directoryEntry(ctx context.Context) (*rooms.Published, error) {
	found, err := st.Lookup(ctx, event.CreateKey, event.JoinRulesKey, event.Key{Type: event.TypeHistoryVisibility},
		event.Key{Type: event.TypeName}, event.Key{Type: event.TypeTopic}, event.Key{Type: event.TypeCanonicalAlias},
		event.Key{Type: event.TypeAvatar}, event.Key{Type: event.TypeGuestAccess})
	if err != nil {
		return nil, err
	}
	return &rooms.Published{
		RoomNum: st.room.Num, Room: st.room.ID, Listed: st.tip.listed,
		RoomType:       found[0].Text("type"),
		JoinRule:       found[1].Text("join_rule"),
		WorldReadable:  found[2].Text("history_visibility") == "world_readable",
		Name:           found[3].Text("name"),
		Topic:          found[4].Text("topic"),
		CanonicalAlias: found[5].Text("alias"),
		AvatarURL:      found[6].Text("url"),
		GuestCanJoin:   found[7].Text("guest_access") == "can_join",
	}, nil
}

// List puts the room into the directory, or takes it out.
func (st *Step) List(ctx context.Context, public bool) (err error) {
	st.tip.listed = public
	st.directory, err = st.directoryEntry(ctx)
	return err
}
