package view_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// world is a room server with a clock that stands still unless a test moves it.
type world struct {
	t      testing.TB
	db     *storage.DB
	s      *roomserver.Server
	room   matrix.RoomID
	txn    int
	passed time.Duration
}

type nobody struct{}

func (nobody) Profile(context.Context, matrix.UserID) (map[string]json.RawMessage, error) {
	return nil, nil
}

var now = time.UnixMilli(1_800_000_000_000)

// newWorld makes a room of alice's that anybody may join.
func newWorld(t testing.TB, version matrix.RoomVersion, visibility string) *world {
	t.Helper()
	key, err := signing.Generate(rand.Reader)
	must(t, err)
	w := &world{t: t, db: storagetest.Open(t, storagetest.SQLite)}
	w.s = roomserver.New(roomserver.Settings{
		DB: w.db, ServerName: "example.org", Key: key, Profiles: nobody{}, DefaultVersion: version,
		Now: func() time.Time { return now.Add(w.passed) }, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler),
	})
	w.room, err = w.s.Create(t.Context(), who("alice"), roomserver.CreateRoom{
		Preset: "public_chat",
		InitialState: []roomserver.InitialState{{
			Type: event.TypeHistoryVisibility, Content: []byte(`{"history_visibility":"` + visibility + `"}`),
		}},
	})
	must(t, err)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func who(name string) matrix.Requester {
	id := matrix.UserID("@" + name + ":example.org")
	return matrix.Requester{Account: id, User: id, Device: "D"}
}

// tell lets a story happen, word by word: what bob does or what is done to him, the history visibility that alice sets,
// or else what she says.
func (w *world) tell(story string) {
	w.t.Helper()
	ctx, bob, alice := w.t.Context(), who("bob"), who("alice")
	to := roomserver.Move{Room: w.room, Target: bob.User}
	for word := range strings.FieldsSeq(story) {
		var err error
		switch word {
		case "join":
			err = w.s.Join(ctx, bob, w.room, "")
		case "leave":
			err = w.s.Leave(ctx, bob, w.room, "")
		case "forget":
			err = w.s.Forget(ctx, bob, w.room)
		case "invite":
			err = w.s.Invite(ctx, alice, to)
		case "kick":
			err = w.s.Kick(ctx, alice, to)
		case "ban":
			err = w.s.Ban(ctx, alice, to)
		case "unban":
			err = w.s.Unban(ctx, alice, to)
		case "world_readable", "shared", "invited", "joined":
			w.set(event.TypeHistoryVisibility, `{"history_visibility":"`+word+`"}`)
		default:
			w.say(word)
		}
		if err != nil {
			w.t.Fatalf("%s, in %q: %v", word, story, err)
		}
	}
}

func (w *world) say(body string) matrix.EventID {
	w.t.Helper()
	w.txn++
	id, err := w.s.Send(w.t.Context(), who("alice"), roomserver.SendEvent{
		Room: w.room, Type: event.TypeMessage, Content: []byte(`{"body":"` + body + `"}`),
		Txn: roomserver.Txn{Path: "p", ID: fmt.Sprint(w.txn)},
	})
	must(w.t, err)
	return id
}

func (w *world) set(typ, content string) matrix.EventID {
	w.t.Helper()
	id, err := w.s.SendState(w.t.Context(), who("alice"), roomserver.SendState{Room: w.room, Type: typ, Content: []byte(content)})
	must(w.t, err)
	return id
}

func (w *world) open(name string) *view.Viewer {
	w.t.Helper()
	v, err := view.Open(w.t.Context(), w.s, w.db, who(name), w.room)
	must(w.t, err)
	return v
}

// timeline is all that has happened in the room since it was made.
func (w *world) timeline() []*rooms.Event {
	w.t.Helper()
	room, err := w.s.Room(w.t.Context(), w.room)
	must(w.t, err)
	all, err := rooms.Page(w.t.Context(), w.db, room, rooms.PageQuery{Limit: 1000})
	must(w.t, err)
	return all
}

// story writes events in the words of tell; those by which the room was made are left out.
func story(events []view.Seen) string {
	var words []string
	for _, e := range events {
		var content struct {
			Body, Membership string
			Visibility       string `json:"history_visibility"`
		}
		_ = json.Unmarshal(e.Content, &content)
		switch {
		case content.Body != "":
			words = append(words, content.Body)
		case e.Type == event.TypeMember && *e.StateKey == string(who("bob").User):
			words = append(words, content.Membership)
		case e.Type == event.TypeHistoryVisibility:
			words = append(words, content.Visibility)
		}
	}
	return strings.Join(words, " ")
}

func (w *world) bobSees() string {
	w.t.Helper()
	seen, err := w.open("bob").See(w.t.Context(), w.timeline())
	must(w.t, err)
	return story(seen)
}

// The rules of https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-5 for a room whose visibility stays.
func TestHistoryVisibility(t *testing.T) {
	for _, c := range []struct{ name, story, shared, invited, joined string }{
		{"never joined", "1", "", "", ""},
		{"invited", "1 invite 2", "", "invite 2", ""},
		{"rejected", "1 invite 2 leave 3", "", "invite 2 leave", ""},
		{"invite withdrawn", "1 invite 2 kick 3", "", "invite 2 leave", ""},
		{"joined later", "1 join 2", "1 join 2", "join 2", "join 2"},
		{"invited, then joined", "1 invite 2 join 3", "1 invite 2 join 3", "invite 2 join 3", "join 3"},
		{"left", "1 join 2 leave 3", "1 join 2 leave", "join 2 leave", "join 2 leave"},
		{"kicked", "1 join 2 kick 3", "1 join 2 leave", "join 2 leave", "join 2 leave"},
		{"banned", "1 join 2 ban 3", "1 join 2 ban", "join 2 ban", "join 2 ban"},
		{"banned, never there", "1 ban 2", "", "", ""},
		{"unbanned", "1 join 2 ban 3 unban 4", "1 join 2 ban", "join 2 ban", "join 2 ban"},
		{"rejoined", "1 join 2 leave 3 join 4", "1 join 2 leave 3 join 4", "join 2 leave join 4", "join 2 leave join 4"},
		{"invited again", "1 join 2 leave 3 invite 4", "1 join 2 leave", "join 2 leave invite 4", "join 2 leave"},
		{"left twice", "1 join 2 leave 3 join 4 leave 5", "1 join 2 leave 3 join 4 leave", "join 2 leave join 4 leave", "join 2 leave join 4 leave"},
	} {
		all := strings.NewReplacer("unban", "leave", "kick", "leave").Replace(c.story)
		for visibility, want := range map[string]string{
			"world_readable": "world_readable " + all, "shared": c.shared, "invited": c.invited, "joined": c.joined,
		} {
			w := newWorld(t, "12", visibility)
			w.tell(c.story)
			got := w.bobSees()
			// The event that set the visibility was sent while it was shared: whoever ever joined sees it.
			if strings.Contains(c.story, "join") || visibility == "world_readable" {
				want = strings.TrimPrefix(visibility+" "+strings.TrimPrefix(want, "world_readable "), " ")
			}
			if strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("%s, %s: %q: got %q, want %q", c.name, visibility, c.story, got, want)
			}
		}
	}
}

// The visibility at the event decides; of the event that changes it, the one before or the one after.
func TestChangedVisibility(t *testing.T) {
	for _, c := range []struct{ begin, story, want string }{
		{"world_readable", "1 joined 2", "world_readable 1 joined"},
		{"joined", "1 world_readable 2 joined 3", "world_readable 2 joined"},
		{"joined", "1 shared 2 invited 3 join 4", "joined shared 2 invited join 4"},
		{"joined", "1 invite 2 invited 3 joined 4", "invited 3 joined"},
		{"shared", "1 joined 2 shared 3 join", "shared 1 joined shared 3 join"},
	} {
		w := newWorld(t, "11", c.begin)
		w.tell(c.story)
		if got := w.bobSees(); got != c.want {
			t.Errorf("%s, then %q: got %q, want %q", c.begin, c.story, got, c.want)
		}
	}
}

// A visibility that makes no sense is taken for shared.
func TestUnknownVisibility(t *testing.T) {
	for _, content := range []string{`{"history_visibility":"mine"}`, `{"history_visibility":""}`} {
		w := newWorld(t, "11", "joined")
		w.set(event.TypeHistoryVisibility, content)
		w.tell("1 join 2")
		if got := w.bobSees(); !strings.HasSuffix(got, "1 join 2") {
			t.Errorf("%s: got %q, want 1 join 2", content, got)
		}
	}
}

func TestMembershipOnEvents(t *testing.T) {
	w := newWorld(t, "12", "shared")
	w.tell("1 invite 2 join 3 leave 4 join 5")
	seen, err := w.open("bob").See(t.Context(), w.timeline())
	must(t, err)
	var got []string
	for _, e := range seen {
		got = append(got, string(e.Membership))
	}
	want := "leave leave leave leave leave leave invite invite join join leave leave join join"
	if g := strings.Join(got, " "); g != want {
		t.Errorf("memberships: got %q, want %q", g, want)
	}
}

func TestStanding(t *testing.T) {
	for _, c := range []struct{ story, want string }{
		{"1", "nothing"},
		{"1 invite 2", "nothing"},
		{"1 ban 2", "nothing"},
		{"1 invite 2 leave 3", "nothing"},
		{"1 join 2", "all"},
		{"1 join 2 leave 3", "joined 1 join 2 leave"},
		{"1 join 2 kick 3", "joined 1 join 2 leave"},
		{"1 join 2 ban 3 unban 4", "joined 1 join 2 ban"},
		{"1 join 2 leave 3 invite 4", "joined 1 join 2 leave"},
		{"1 join 2 leave 3 join 4", "all"},
		{"1 join 2 leave 3 join 4 leave 5", "joined 1 join 2 leave 3 join 4 leave"},
		{"1 join 2 leave forget", "nothing"},
		{"1 join 2 leave forget join 3", "all"},
		{"1 join 2 leave world_readable 3", "all"},
		{"1 world_readable 2", "all"},
		{"1 world_readable 2 shared 3", "nothing"},
	} {
		w := newWorld(t, "12", "joined")
		w.tell(c.story)
		if got := w.standing(); got != c.want {
			t.Errorf("%q: got %q, want %q", c.story, got, c.want)
		}
	}
}

// standing writes what bob may see of the timeline by his standing.
func (w *world) standing() string {
	w.t.Helper()
	sight, err := w.open("bob").Standing(w.t.Context())
	switch {
	case matrix.CodeOf(err) == matrix.Forbidden:
		return "nothing"
	case err != nil:
		w.t.Fatal(err)
	case sight.Until == 0:
		return "all"
	}
	var until []view.Seen
	for _, e := range w.timeline() {
		if e.Position <= sight.Until {
			until = append(until, view.Seen{Event: e})
		}
	}
	return story(until)
}

func TestStays(t *testing.T) {
	w := newWorld(t, "12", "shared")
	w.tell("1 join 2 leave 3 join 4")
	v := w.open("bob")
	if left, ok := v.Left(); ok || left != 0 || !v.Joined() {
		t.Errorf("bob: left %d, %v, joined %v; want him to be there", left, ok, v.Joined())
	}
	var got, since []string
	for _, e := range w.timeline() {
		if e.Type == event.TypeMessage {
			got = append(got, fmt.Sprint(v.JoinedAt(e.Position)))
			since = append(since, fmt.Sprint(v.StayedSince(e.Position)))
		}
	}
	if g := strings.Join(got, " "); g != "false true false true" {
		t.Errorf("joined at the messages: got %s, want false true false true", g)
	}
	if g := strings.Join(since, " "); g != "false false false true" {
		t.Errorf("stayed since the messages: got %s, want false false false true", g)
	}
}

func TestOpenUnknownRoom(t *testing.T) {
	w := newWorld(t, "12", "shared")
	_, err := view.Open(t.Context(), w.s, w.db, who("bob"), "!unknown:example.org")
	_, outside := w.open("bob").Standing(t.Context())
	if matrix.CodeOf(err) != matrix.Forbidden || matrix.CodeOf(outside) != matrix.Forbidden {
		t.Errorf("got %v for an unknown room and %v for a private one, want M_FORBIDDEN for both", err, outside)
	}
	if a, b := strings.ReplaceAll(err.Error(), "!unknown:example.org", "R"), strings.ReplaceAll(outside.Error(), string(w.room), "R"); a != b {
		t.Errorf("got %q for an unknown room and %q for a private one, want the same", a, b)
	}
}

// What is in no timeline is shown to nobody; and where backfilled history was put does not make it visible.
func TestKinds(t *testing.T) {
	w := newWorld(t, "12", "joined")
	w.tell("1 join 2")
	all := w.timeline()
	before, after := *all[len(all)-3], *all[len(all)-1]
	v := w.open("bob")
	sees := func(e rooms.Event) bool {
		t.Helper()
		seen, err := v.See(t.Context(), []*rooms.Event{&e})
		must(t, err)
		return len(seen) == 1
	}
	for kind, want := range map[rooms.Kind]bool{
		rooms.Live: true, rooms.Backfilled: true, rooms.Outlier: false, rooms.Rejected: false, rooms.SoftFailed: false,
	} {
		e := after
		e.Kind = kind
		if got := sees(e); got != want {
			t.Errorf("kind %d: seen %v, want %v", kind, got, want)
		}
	}
	// Sent before bob came, found after.
	e := before
	e.Kind, e.Position, e.Order = rooms.Backfilled, 0, rooms.Order{Anchor: after.Position, Sub: -1}
	if sees(e) {
		t.Error("backfilled from before the join: seen, want hidden")
	}
	e.StateBefore = 0
	if sees(e) {
		t.Error("backfilled with unknown state: seen, want hidden")
	}
}

// An event of another server may come, after the viewer joined, from a branch on which it had not: its own state decides.
func TestBranchesFromElsewhere(t *testing.T) {
	w := newWorld(t, "12", "joined")
	w.tell("1 join 2")
	all := w.timeline()
	late, branch := *all[len(all)-1], *all[len(all)-3]
	plain := *late.Event
	plain.Sender = "@carol:elsewhere.org"
	late.Event, late.StateBefore = &plain, branch.StateBefore
	v := w.open("bob")
	seen, err := v.See(t.Context(), []*rooms.Event{&late})
	must(t, err)
	if len(seen) != 0 {
		t.Error("an event from before the join on its own branch: seen, want hidden")
	}
}

func TestDummyEventsAreHidden(t *testing.T) {
	w := newWorld(t, "12", "shared")
	w.tell("1 join 2")
	all := w.timeline()
	e := *all[len(all)-1]
	plain := *e.Event
	plain.Type = roomserver.TypeDummy
	e.Event = &plain
	seen, err := w.open("bob").See(t.Context(), []*rooms.Event{&e})
	must(t, err)
	if len(seen) != 0 {
		t.Error("an event that only joins branches: seen, want hidden")
	}
}

// between is a database in which something happens between two reads of it.
type between struct {
	storage.Querier
	happen func()
}

func (b *between) Query(ctx context.Context, sql string, args ...any) (storage.Rows, error) {
	if strings.Contains(sql, "membership_history") {
		b.happen()
	}
	return b.Querier.Query(ctx, sql, args...)
}

func TestOpenWhileTheViewerMoves(t *testing.T) {
	w := newWorld(t, "12", "shared")
	w.tell("1 join 2")
	q := &between{w.db, func() { must(t, w.s.Leave(t.Context(), who("bob"), w.room, "")) }}
	v, err := view.Open(t.Context(), w.s, q, who("bob"), w.room)
	must(t, err)
	sight, err := v.Standing(t.Context())
	if err != nil || sight.Until == 0 || v.Joined() {
		t.Errorf("got %+v, joined %v, %v, want what was there at the leave", sight, v.Joined(), err)
	}
}
