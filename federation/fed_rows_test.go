package federation_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// rows are the published weaknesses of other servers in what servers call or answer, with the test of each here; or, after
// a dash, why there is none.
var rows = map[string]string{
	"CVE-2018-12291":      "TestCVE_2018_12291_HistoryVisibility",
	"CVE-2018-16515":      "TestCVE_2018_16515_DeniedByACL",
	"CVE-2019-18835":      "TestCVE_2019_18835_NotSignedByTheSender",
	"CVE-2020-26257":      "TestCVE_2020_26257_AnotherRoomInTheEvent",
	"CVE-2022-39200":      "TestCVE_2022_39200_FlippedSignatures",
	"CVE-2022-39335":      "TestCVE_2022_39335_NotThereAndNotYours",
	"CVE-2023-42453":      "TestCVE_2023_42453_EDUsOfOthers",
	"CVE-2023-43796":      "TestCVE_2023_43796_DevicesOfOthers",
	"CVE-2024-6301":       "TestCVE_2024_6301_WhoAsks",
	"CVE-2024-52815":      "TestCVE_2024_52815_InviteStateOfWrongTypes",
	"CVE-2025-30355":      "TestCVE_2025_30355_OddEventsRoundTrip",
	"CVE-2025-68667":      "TestCVE_2025_68667_OnlyInvitesAreSigned",
	"Synapse 1.2.1 #5744": "TestSynapse_5744_MembershipOfOthers",
	"continuwuity SEC26":  "TestContinuwuity_SEC26_RejectedEventsStayHere",
	"tuwunel 1.9.0":       "TestCVE_2022_39335_NotThereAndNotYours", // the same; timestamp_to_event is not served
	"CVE-2026-24471":      "- templates are asked for and made into events of ours by federation/remote and Network",
	"continuwuity 0.5.4":  "- the answers to joins and knocks are read by federation/remote, and taken in by Network",
	"Synapse 1.15.2":      "- states of others are asked for, and judged, in roomserver",
	"CVE-2024-52594":      "- requests to others leave by outbound alone",
	"CVE-2021-21273":      "- requests to others leave by outbound alone",
	"tuwunel show-config": "- no room is ours to administrate the server by",
	"continuwuity 0.5.6":  "- no event is a command",
	"CVE-2025-61672":      "- no device has keys yet",
}

// Every row names a test that is there, or says why it has none.
func TestRowsOfPublishedWeaknesses(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	must(t, err)
	var text strings.Builder
	for _, name := range files {
		content, err := os.ReadFile(name)
		must(t, err)
		text.Write(content)
	}
	for row, test := range rows {
		why, none := strings.CutPrefix(test, "- ")
		switch {
		case none:
			t.Logf("%s has no test here: %s", row, why)
		case !strings.Contains(text.String(), "func "+test+"("):
			t.Errorf("%s: there is no %s", row, test)
		}
	}
}

// However an event enters, with one bit of its signature wrong it is not stored. The ways in by which this server asks
// are those of federation/remote.
func TestCVE_2022_39200_FlippedSignatures(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	w.set(room, event.TypeJoinRules, `{"join_rule":"knock"}`)
	for endpoint, m := range map[string]event.Membership{
		"v1/send_join": event.Join, "v2/send_join": event.Join, "v1/send_leave": event.Leave, "v2/send_leave": event.Leave, "v1/send_knock": event.Knock,
	} {
		e := them.member(room, m)
		them.put(roomPath(endpoint[:2], endpoint[3:], room, string(e.ID)), []byte(flip(t, e))).fails(400, matrix.InvalidParam)
		if w.stored(room, e.ID) != nil {
			t.Errorf("%s: the event was stored", endpoint)
		}
	}
	w.set(room, event.TypeJoinRules, `{"join_rule":"public"}`)
	them.join(room)
	e := them.message(room, "x")
	if got := them.sendRaw("1", []json.RawMessage{flip(t, e)}); got[e.ID] == "" {
		t.Errorf("send: got %v, want an error", got)
	}
	// Relayed by another, the signature is still that of the sender's server.
	third := w.peer("third.example", 3)
	third.join(room)
	if got := third.sendRaw("1", []json.RawMessage{flip(t, e)}); got[e.ID] == "" {
		t.Errorf("send by a third: got %v, want an error", got)
	}
	forged := third.draft(room, event.TypeMessage, `{"body":"forged"}`)
	forged.Sender = bob
	if f := third.build(room, forged); third.send([]*event.Event{f})[f.ID] == "" {
		t.Error("an event signed by another server than its sender's was taken")
	}
	w.settle()
	if w.stored(room, e.ID) != nil {
		t.Error("send: the event was stored")
	}
	if got := third.sendRaw("2", []json.RawMessage{e.JSON}); got[e.ID] != "" {
		t.Errorf("the good event, relayed: got %v, want it taken", got)
	}
}

// What is taken can be given on: the same event, by each endpoint that gives events.
func TestCVE_2025_30355_OddEventsRoundTrip(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"10", "11", "12"} {
		w := newWorld(t)
		w.run()
		them := w.them()
		room := w.roomOf(version, "shared")
		them.join(room)
		deep := strings.Repeat(`{"a":`, 60) + `1` + strings.Repeat(`}`, 60)
		for name, content := range map[string]string{
			"empty":           `{}`,
			"NUL":             `{"body":"\u0000"}`,
			"escapes":         `{"\u2028\"\\":"\ud83d\ude00\u007f\u0085"}`,
			"deep":            deep,
			"large integers":  `{"a":9007199254740991,"b":-9007199254740991}`,
			"empty key":       `{"":{"":[]}}`,
			"large":           `{"x":"` + strings.Repeat("x", 60_000) + `"}`,
			"wrong relation":  `{"m.relates_to":{"rel_type":1,"event_id":[]},"m.mentions":{"user_ids":5}}`,
			"wrong redaction": `{"redacts":1}`,
		} {
			for _, typ := range []string{event.TypeMessage, "", "\u0000", event.TypeRedaction, strings.Repeat("t", event.MaxFieldBytes)} {
				proto := them.draft(room, typ, content)
				proto.OriginServerTS = -1 << 40
				e := them.build(room, proto)
				if got := them.send([]*event.Event{e}); got[e.ID] != "" {
					continue // refused: nothing is to be given on
				}
				w.settle()
				had := w.stored(room, e.ID)
				if had == nil || had.Kind == rooms.Rejected {
					continue
				}
				for _, a := range []answer{them.get(eventPath(e.ID)), them.get(backfillPath(room, 1, e.ID))} {
					ids, redacted := pdusOf(t, room, a, "pdus")
					if fmt.Sprint(ids) != fmt.Sprint([]matrix.EventID{e.ID}) || redacted[e.ID] {
						t.Errorf("version %s, %s, type %.10q: got %v, want the event as it came", version, name, typ, ids)
					}
				}
			}
		}
	}
}
