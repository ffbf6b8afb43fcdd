package syncapi_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
)

// A farRoom is a room of another server in the making: a row of events, each after the one before.
type farRoom struct {
	t     testing.TB
	key   signing.Key
	all   []*event.Event
	needs []matrix.EventID // auth events
}

const farHost = matrix.UserID("@host:far.org")

// newFarRoom makes a public room of version 11 with so many members.
func newFarRoom(t testing.TB, members int) *farRoom {
	key, err := signing.Generate(rand.Reader)
	must(t, err)
	f := &farRoom{t: t, key: key}
	f.add("m.room.create", "", farHost, `{"room_version":"11"}`)
	f.add("m.room.member", string(farHost), farHost, `{"membership":"join"}`)
	f.add("m.room.join_rules", "", farHost, `{"join_rule":"public"}`)
	f.add("m.room.name", "", farHost, `{"name":"far"}`)
	f.needs = []matrix.EventID{f.all[0].ID, f.all[2].ID}
	for i := range members {
		user := fmt.Sprintf("@m%d:far.org", i)
		f.add("m.room.member", user, matrix.UserID(user), `{"membership":"join"}`)
	}
	return f
}

func (f *farRoom) add(typ, stateKey string, by matrix.UserID, content string) *event.Event {
	f.t.Helper()
	v, _ := event.VersionOf("11")
	p := event.Proto{
		Type: typ, StateKey: &stateKey, Sender: by, RoomID: "!far:far.org", Content: []byte(content),
		AuthEvents: f.needs, Depth: int64(len(f.all) + 1), OriginServerTS: 1,
	}
	if n := len(f.all); n > 0 {
		p.PrevEvents = []matrix.EventID{f.all[n-1].ID}
		if f.needs == nil {
			p.AuthEvents = ids(f.all[:min(n, 2)])
		}
	}
	ev, err := event.Build(v, p, by.Server(), f.key)
	must(f.t, err)
	f.all = append(f.all, ev)
	return ev
}

func ids(events []*event.Event) (list []matrix.EventID) {
	for _, ev := range events {
		list = append(list, ev.ID)
	}
	return list
}

// A room that this server has joined elsewhere has no state here from before the join: a client that loads members lazily
// is told of those that it sees, and any other of all.
func TestStateOfARoomJoinedElsewhere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		since := w.sync(alice, nil).NextBatch
		far := newFarRoom(t, 5)
		state := slices.Clone(far.all)
		join := far.add("m.room.member", string(alice), alice, `{"membership":"join"}`)
		must(t, w.rooms.Adopt(ctx, roomserver.JoinAnswer{
			Room: join.RoomID, Version: join.Version, Join: join, State: state, AuthChain: state,
		}))
		w.send(alice, join.RoomID, "hello")
		lazy := `{"room":{"state":{"lazy_load_members":true}}}`
		for _, restarted := range []bool{false, true} {
			if restarted {
				w.start()
			}
			for name, q := range map[string]query{"initial": {}, "incremental": {"since": since}} {
				r := w.sync(alice, q).Rooms.Join[join.RoomID]
				want(t, name, bodies(r.Timeline.Events), "join @alice:test", "hello")
				if r.State == nil || len(r.State.Events) != len(state) || !r.Timeline.Limited {
					t.Errorf("%s: got %+v, want %d of state, before a limited timeline", name, r, len(state))
				}
				q["filter"] = lazy
				r = w.sync(alice, q).Rooms.Join[join.RoomID]
				wantSorted(t, name+", lazily", bodies(r.State.Events), "m.room.create", "m.room.join_rules", "m.room.name")
			}
		}
	})
}
