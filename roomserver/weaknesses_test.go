package roomserver_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// weaknesses are the published weaknesses of other servers in events, state and work without bounds. Each has its tests,
// as "folder.Test" or "file == case"; or, after a dash, the reason why it has none here: it is a matter of another part.
var weaknesses = map[string][]string{
	// Authorisation, signatures, state.
	"CVE-2025-49090": {
		"roomserver.TestRoomVersion12_CVE_2025_49090", "roomserver/testdata/forks.txt == MSC4297 problem A in version 12",
		"event/stateres/testdata/attacks.txt == MSC4297 problem A: an outdated join rule",
		"event/stateres/testdata/attacks.txt == MSC4297 problem A: the sender has left since",
		"event/stateres/testdata/attacks.txt == MSC4297 problem B: what lies between is not replayed",
	},
	"CVE-2025-54315": {
		"roomserver.TestSecondCreateEvent_CVE_2025_54315", "event/stateres/testdata/attacks.txt == a second create event",
		"roomserver/testdata/forks.txt == a room is created once",
	},
	"CVE-2022-31152":      {"event/auth.TestEveryRule_CVE_2022_31152", "event/stateres.TestOracle"},
	"CVE-2022-36009":      {"event/auth.TestEventsDefault_CVE_2022_36009"},
	"CVE-2022-39200":      {"federation.TestCVE_2022_39200_FlippedSignatures", "federation.TestEveryWayIn"},
	"CVE-2019-18835":      {"federation.TestCVE_2019_18835_AllSigners", "federation.TestCVE_2019_18835_NotSignedByTheSender"},
	"CVE-2018-16515":      {"federation.TestCVE_2018_16515_DeniedByACL"},
	"CVE-2022-39374":      {"roomserver/testdata/forks.txt == rejected power levels stay out, also when branches are merged (CVE-2022-39374)", "event/stateres/testdata/attacks.txt == a rejected event does not come back"},
	"Synapse 1.7.1 #6501": {"roomserver.TestAuthEventsOfAnotherRoom_Synapse_6501"},
	"Synapse 1.2.1 #5767": {"roomserver.TestRedactionLoops_Synapse_5767", "roomserver/testdata/forks.txt == redactions on branches"},
	"CVE-2024-6302":       {"roomserver.TestRedactionsAcrossOrder_CVE_2024_6302"},
	"Synapse 1.15.2":      {"roomserver.TestStateAtGapIsSmall_Synapse_1_15_2", "event/stateres/testdata/attacks.txt == a state that was cut down to little"},
	"Synapse 1.2.1 #5744": {"federation.TestSynapse_5744_MembershipOfOthers", "roomserver/testdata/forks.txt == nobody joins or leaves for others"},
	"CVE-2018-12291":      {"federation.TestCVE_2018_12291_HistoryVisibility", "roomserver/view.TestHistoryVisibility"},
	"CVE-2022-39335":      {"federation.TestCVE_2022_39335_NotThereAndNotYours"},
	"tuwunel 1.9.0":       {"federation.TestCVE_2022_39335_NotThereAndNotYours"},
	"continuwuity SEC26":  {"federation.TestContinuwuity_SEC26_RejectedEventsStayHere"},
	"CVE-2026-24471":      {"federation.TestNetworkHostileTemplate_CVE_2026_24471", "federation.TestTemplateHostile"},
	"continuwuity 0.5.4":  {"federation.TestNetworkHostileJoinAnswer_continuwuity_0_5_4", "roomserver.TestAdoptRefuses"},
	"CVE-2025-68667":      {"roomserver.TestReceiveInviteSignsNothingElse_CVE_2025_68667", "federation.TestCVE_2025_68667_OnlyInvitesAreSigned"},
	"palpo":               {"roomserver.TestStateBeforeIsKept_palpo"},
	"CVE-2020-26257":      {"federation.TestCVE_2020_26257_AnotherRoomInTheEvent"},
	"CVE-2026-45076":      {"roomserver.TestHiddenEventsEndNoPage_CVE_2026_45076"},
	"CVE-2024-53867":      {"- what sync sends to those who left is syncapi's"},
	"continuwuity SEC10":  {"- what sync sends to those who left is syncapi's"},
	"CVE-2021-39164":      {"- whom the client API shows members to is clientapi's"},
	"CVE-2023-42453":      {"federation.TestCVE_2023_42453_EDUsOfOthers"},

	// Work and memory without bounds.
	"CVE-2018-10657":           {"roomserver.TestHugeDepth_CVE_2018_10657", "event.TestParseRefuses"},
	"CVE-2024-31208":           {"event/stateres.TestGrowth_CVE_2024_31208"},
	"CVE-2025-30355":           {"federation.TestCVE_2025_30355_OddEventsRoundTrip"},
	"CVE-2025-61672":           {"- no event: keys of devices"},
	"CVE-2023-32323":           {"roomserver.TestInviteStateIsBounded_CVE_2023_32323"},
	"CVE-2024-52815":           {"roomserver.TestReceiveInviteState_CVE_2024_52815", "federation.TestCVE_2024_52815_InviteStateOfWrongTypes"},
	"CVE-2023-45129":           {"event.TestServerACLHostile_CVE_2023_45129"},
	"CVE-2021-29471":           {"roomserver/view.TestWildcard"},
	"tuwunel push rules":       {"- the order of push rules is that of the account, not of rooms"},
	"tuwunel poisoned counter": {"roomserver.TestPanic_tuwunel_1_9_0", "storage.TestFaultAtEachStep", "storage.TestPoisonFailsAlone"},
	"CVE-2026-45078":           {"roomserver.TestTooManyWaiting_CVE_2026_45078", "roomserver.TestSlowFetch"},
	"CVE-2024-37302":           {"- media"},
	"CVE-2024-36403":           {"- media"},
	"CVE-2024-52805":           {"- bodies of requests are httpapi's"},
	"continuwuity 0.5.6":       {"- bodies of requests are httpapi's"},
	"CVE-2021-21274":           {"- well-known files are outbound's"},
	"CVE-2022-31052":           {"- previews of URLs"},
	"CVE-2022-41952":           {"- previews of URLs"},
	"CVE-2021-21393":           {"- parameters of requests are clientapi's"},
	"get_missing_events":       {"federation.TestEvents"},
	"Dendrite 0.12.0":          {"- relations are followed by clientapi"},
	"Synapse 1.19.2 #8324":     {"roomserver.TestGapOfBrokenEvents", "federation.TestSendJoinHostile"},
	"CVE-2020-26890":           {"matrix/canonical.TestRefusedInBothModes_CVE_2020_26890"},
}

// TestWeaknesses: every published weakness has tests that are there, or the reason why it has none.
func TestWeaknesses(t *testing.T) {
	for weakness, proofs := range weaknesses {
		for _, proof := range proofs {
			if why, none := strings.CutPrefix(proof, "- "); none {
				t.Logf("%s has no test here: %s", weakness, why)
			} else if !isThere(t, proof) {
				t.Errorf("%s: there is no %s", weakness, proof)
			}
		}
	}
}

// isThere says whether a test exists, in its folder or in one of those in that.
func isThere(t *testing.T, proof string) bool {
	t.Helper()
	if file, _, isCase := strings.Cut(proof, " == "); isCase {
		return contains(t, filepath.Join("..", file), proof[len(file)+1:]+"\n")
	}
	folder, name, _ := strings.Cut(proof, ".")
	return contains(t, filepath.Join("..", folder, "*_test.go"), "func "+name+"(") ||
		contains(t, filepath.Join("..", folder, "*", "*_test.go"), "func "+name+"(")
}

func contains(t *testing.T, pattern, want string) bool {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), want) {
			return true
		}
	}
	return false
}

// The room of version 12 is named after its create event, and nothing takes their power from those who made it.
func TestRoomVersion12_CVE_2025_49090(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := lay(t, db, "12")
		create := w.after[w.base.ID][event.Key{Type: event.TypeCreate}]
		if string(w.room.ID[1:]) != string(create.ID[1:]) {
			t.Errorf("room %s begins with %s, want one name", w.room.ID, create.ID)
		}
		for name, content := range map[string]string{
			"demoted":  fmt.Sprintf(`{"users":{%q:0}}`, user("alice")),
			"as equal": fmt.Sprintf(`{"users":{%q:100,%q:100}}`, user("alice"), user(bobThere)),
		} {
			if got := w.outcomes(w.set("alice", event.TypePowerLevels, content, w.base)); got != "r" {
				t.Errorf("the creator %s: got %s, want it rejected", name, got)
			}
		}
		power := w.set("alice", event.TypePowerLevels, fmt.Sprintf(`{"users":{%q:9007199254740991}}`, user(bobThere)), w.base)
		w.must(roomserver.Accepted, power)
		if got := w.outcomes(w.member(bobThere, "alice", "ban", power), w.member("alice", bobThere, "ban", power)); got != "ra" {
			t.Errorf("who has most bans the creator, and the creator him: got %s, want ra", got)
		}
	})
}

// A second create event is no way into a room, whatever it says, nor is what stands on it.
func TestSecondCreateEvent_CVE_2025_54315(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		if w.room.Version.RoomIDs == event.CreateHashRoomIDs {
			return // it makes another room: TestReceiveNotOfTheRoom
		}
		key := ""
		second := w.make(proto{by: "alice", typ: event.TypeCreate, stateKey: &key, content: fmt.Sprintf(`{"creator":%q}`, user("alice")), auth: []matrix.EventID{}})
		later := w.make(proto{by: "alice", typ: event.TypeCreate, stateKey: &key, content: fmt.Sprintf(`{"creator":%q}`, user("alice")), prevs: []*event.Event{w.base}, auth: []matrix.EventID{}})
		onIt := w.make(proto{by: bobThere, typ: event.TypeMessage, content: `{}`, prevs: []*event.Event{w.base}, auth: []matrix.EventID{second.ID}})
		if got := w.outcomes(second, later, onIt); got != "rrr" {
			t.Errorf("got %s, want all rejected", got)
		}
		w.must(roomserver.Accepted, w.say(bobThere, "goes on", w.base))
	})
}

// What authorises an event is of the same room.
func TestAuthEventsOfAnotherRoom_Synapse_6501(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		other := lay(t, w.db, w.room.Version.ID)
		there := other.after[other.base.ID]
		power := other.set("alice", event.TypePowerLevels, fmt.Sprintf(`{"users":{%q:100}}`, user(bobThere)), other.base)
		other.must(roomserver.Accepted, power)
		w.remote.know(power, nil)
		here := w.after[w.base.ID]
		var auth []matrix.EventID
		if w.room.Version.CreateInAuthEvents {
			auth = append(auth, here[event.Key{Type: event.TypeCreate}].ID)
		}
		member := event.Key{Type: event.TypeMember, StateKey: string(user(bobThere))}
		topic := func(auth ...matrix.EventID) *event.Event {
			key := ""
			return w.make(proto{by: bobThere, typ: "m.room.topic", stateKey: &key, content: `{"topic":"mine"}`, prevs: []*event.Event{w.base}, auth: auth})
		}
		w.remote.know(there[member], nil)
		want := "r"
		if w.room.Version.EventIDs == event.ChosenEventIDs {
			want = "m" // this room may have an event of the same ID
		}
		for name, ev := range map[string]*event.Event{
			"power of another room":  topic(append(auth, here[member].ID, power.ID)...),
			"member of another room": topic(append(auth, there[member].ID)...),
		} {
			if got := w.outcomes(ev); got != want {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		}
		if got := w.state("m.room.topic", "", "topic"); got == "mine" {
			t.Error("the topic is bob's")
		}
	})
}

// The state before an event is what it was, whatever comes later: branches, bans, what was late, redactions.
func TestStateBeforeIsKept_palpo(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		first := w.topic("alice", "first", w.base)
		ban := w.member("alice", carolThere, "ban", first)
		branch := w.say(carolThere, "meanwhile", first)
		late := w.topic("alice", "late", w.base)
		merged := w.say(bobThere, "merged", ban, late)
		redaction := w.redaction("alice", first.ID, merged)
		after := w.topic(bobThere, "not bob's", redaction)
		order := []*event.Event{first, ban, branch, late, merged, redaction, after}
		before := make(map[matrix.EventID]rooms.Root)
		for _, ev := range order {
			w.receive(ev)
			for id, want := range before {
				if got := w.stored(&event.Event{ID: id}).StateBefore; got != want {
					t.Errorf("after %s: the state before %s is %d, was %d", ev.ID, id, got, want)
				}
			}
			before[ev.ID] = w.stored(ev).StateBefore
		}
		if before[late.ID] == before[merged.ID] || before[first.ID] != before[late.ID] {
			t.Errorf("states before first %d, late %d, merged %d: want the first two alike", before[first.ID], before[late.ID], before[merged.ID])
		}
	})
}

// However many events are not shown, a page reaches what is behind them.
func TestHiddenEventsEndNoPage_CVE_2026_45076(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		ban := w.member("alice", carolThere, "ban", w.base)
		w.must(roomserver.Accepted, ban)
		last := ban
		for range 4 {
			var hidden []*event.Event
			for i := range 60 {
				hidden = append(hidden, w.topic(carolThere, fmt.Sprint("rejected ", i), last), w.say(carolThere, fmt.Sprint("soft-failed ", i), w.base))
			}
			for _, got := range w.receive(hidden...) {
				if got.Outcome != roomserver.Rejected && got.Outcome != roomserver.SoftFailed {
					t.Fatalf("got outcome %d (%v), want it hidden", got.Outcome, got.Err)
				}
			}
			last = w.say(bobThere, "seen", last)
			w.must(roomserver.Accepted, last)
		}
		page, err := rooms.Page(context.Background(), w.db, w.room, rooms.PageQuery{
			From: rooms.Order{Anchor: w.db.Position()}, Backward: true, Limit: 5,
		})
		if err != nil || len(page) != 5 || page[4].ID != ban.ID {
			t.Errorf("got a page of %d, %v; want the four messages and the ban", len(page), err)
		}
	})
}

// What an invite tells of its room is no longer than an invite may be.
func TestInviteStateIsBounded_CVE_2023_32323(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := lay(t, db, "11")
		long := strings.Repeat("x", 60_000)
		last := w.base
		for typ, content := range map[string]string{
			"m.room.name": `{"name":%q}`, "m.room.topic": `{"topic":%q}`, "m.room.avatar": `{"url":%q}`, "m.room.encryption": `{"algorithm":%q}`,
		} {
			last = w.set("alice", typ, fmt.Sprintf(content, long), last)
			w.must(roomserver.Accepted, last)
		}
		w.must(roomserver.Accepted, w.member("alice", "dave", "invite", last))
		m, err := rooms.MembersOf(context.Background(), w.db, w.room.Num, event.Invite)
		if err != nil || len(m) != 1 {
			t.Fatalf("got %v, %v; want dave's invite", m, err)
		}
		const most = 128<<10 + event.MaxBytes
		if n := len(m[0].Stripped); n > most || n < 100_000 {
			t.Errorf("got %d bytes of state, want some, and at most %d", n, most)
		}
	})
}
