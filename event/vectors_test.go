package event

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// readVectors decodes a file of testdata.
func readVectors(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

type roomVector struct {
	Version matrix.RoomVersion `json:"room_version"`
	RoomID  matrix.RoomID      `json:"room_id"`
	Events  []struct {
		ID            matrix.EventID  `json:"event_id"`
		PDU           json.RawMessage `json:"pdu"`
		Redacted      json.RawMessage `json:"redacted"`
		ContentHash   string          `json:"content_hash_base64"`
		ReferenceHash string          `json:"reference_hash_base64"`
	} `json:"events"`
}

// roomVectors reads the events of each room version and the key they are
// signed with, which belongs to the server "domain".
func roomVectors(t testing.TB) ([]roomVector, signing.Key) {
	t.Helper()
	var file struct {
		Seed  string       `json:"signing_key_seed_base64"`
		Rooms []roomVector `json:"rooms"`
	}
	readVectors(t, "events-by-room-version.json", &file)
	return file.Rooms, keyOf(t, file.Seed)
}

func keyOf(t testing.TB, seed string) signing.Key {
	t.Helper()
	raw, err := signing.DecodeBase64(seed)
	if err != nil {
		t.Fatal(err)
	}
	k, err := signing.NewKey("ed25519:1", raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func canon(t testing.TB, raw []byte) string {
	t.Helper()
	b, err := canonical.JSON(raw, canonical.Lenient)
	if err != nil {
		t.Fatalf("canonical %s: %v", raw, err)
	}
	return string(b)
}

func version(t testing.TB, id matrix.RoomVersion) *Version {
	t.Helper()
	v, ok := VersionOf(id)
	if !ok {
		t.Fatalf("room version %s is not known", id)
	}
	return v
}

func TestEventVectors(t *testing.T) {
	rooms, key := roomVectors(t)
	if len(rooms) != len(Versions()) {
		t.Fatalf("got vectors of %d room versions, want %d", len(rooms), len(Versions()))
	}
	for _, room := range rooms {
		v := version(t, room.Version)
		for i, vec := range room.Events {
			e, err := Parse(v, vec.PDU)
			if err != nil {
				t.Errorf("version %s, event %d: %v", v.ID, i, err)
				continue
			}
			if e.ID != vec.ID || e.RoomID != room.RoomID || e.Redacted {
				t.Errorf("version %s, event %d: got %s in %s (redacted %v), want %s in %s",
					v.ID, i, e.ID, e.RoomID, e.Redacted, vec.ID, room.RoomID)
			}
			if got, want := string(e.RedactedJSON()), canon(t, vec.Redacted); got != want {
				t.Errorf("version %s, event %d: redacted\ngot  %s\nwant %s", v.ID, i, got, want)
			}
			hash, reference := contentHash(e.JSON), e.ReferenceHash()
			if got := signing.EncodeBase64(hash[:]); got != vec.ContentHash {
				t.Errorf("version %s, event %d: content hash: got %s, want %s", v.ID, i, got, vec.ContentHash)
			}
			if got := signing.EncodeBase64(reference[:]); got != vec.ReferenceHash {
				t.Errorf("version %s, event %d: reference hash: got %s, want %s", v.ID, i, got, vec.ReferenceHash)
			}
			if err := VerifySignature(e, "domain", "ed25519:1", key.Public()); err != nil {
				t.Errorf("version %s, event %d: %v", v.ID, i, err)
			}
			checkRedactedCopy(t, v, vec.Redacted, e, key)
		}
	}
}

// checkRedactedCopy parses the redacted copy of e, which must be the same
// event with less in it.
func checkRedactedCopy(t *testing.T, v *Version, raw []byte, e *Event, key signing.Key) {
	t.Helper()
	r, err := Parse(v, raw)
	if err != nil {
		t.Errorf("version %s, redacted copy of %s: %v", v.ID, e.ID, err)
		return
	}
	if r.ID != e.ID || string(r.JSON) != canon(t, raw) {
		t.Errorf("version %s, redacted copy of %s: got %s: %s\nwant %s", v.ID, e.ID, r.ID, r.JSON, canon(t, raw))
	}
	if lost := string(e.RedactedJSON()) != string(e.JSON); r.Redacted != lost {
		t.Errorf("version %s, redacted copy of %s: got Redacted %v, want %v", v.ID, e.ID, r.Redacted, lost)
	}
	if err := VerifySignature(r, "domain", "ed25519:1", key.Public()); err != nil {
		t.Errorf("version %s, redacted copy: %v", v.ID, err)
	}
}

func TestBuildReproducesVectors(t *testing.T) {
	rooms, key := roomVectors(t)
	for _, room := range rooms {
		v := version(t, room.Version)
		if v.Redaction.top["origin"] {
			continue // these vectors have the old field origin, which we do not write
		}
		for i, vec := range room.Events {
			want, err := Parse(v, vec.PDU)
			if err != nil {
				t.Fatal(err)
			}
			p := Proto{
				Type: want.Type, StateKey: want.StateKey, Sender: want.Sender, RoomID: want.RoomID,
				Content: want.Content, PrevEvents: want.PrevEvents, AuthEvents: want.AuthEvents,
				Depth: want.Depth, OriginServerTS: want.OriginServerTS, Redacts: want.Redacts,
			}
			if want.Type == TypeCreate && v.RoomIDs == CreateHashRoomIDs {
				p.RoomID = ""
			}
			got, err := Build(v, p, "domain", key)
			if err != nil {
				t.Errorf("version %s, event %d: %v", v.ID, i, err)
				continue
			}
			if got.ID != want.ID || got.RoomID != want.RoomID || string(got.JSON) != string(want.JSON) {
				t.Errorf("version %s, event %d: got %s in %s\n%s\nwant %s in %s\n%s",
					v.ID, i, got.ID, got.RoomID, got.JSON, want.ID, want.RoomID, want.JSON)
			}
		}
	}
}

// The two events of https://spec.matrix.org/v1.19/appendices/#signing-json-2,
// which lack fields that Parse asks for.
func TestSigningVectors(t *testing.T) {
	var file struct {
		Seed    string `json:"signing_key_seed_base64"`
		Vectors []struct {
			Name          string          `json:"name"`
			Signed        json.RawMessage `json:"signed"`
			HashInput     string          `json:"content_hash_input"`
			SignedBytes   string          `json:"signed_bytes"`
			ReferenceHash string          `json:"reference_hash_v1_base64"`
		} `json:"vectors"`
	}
	readVectors(t, "event-signing.json", &file)
	key := keyOf(t, file.Seed)
	for _, vec := range file.Vectors {
		obj := canonical.AppendWithout(nil, []byte(canon(t, vec.Signed)), "unsigned")
		e, err := Load(version(t, "1"), "$0:domain", obj)
		if err != nil {
			t.Fatalf("%s: %v", vec.Name, err)
		}
		if got, want := contentHash(e.JSON), sha256.Sum256([]byte(vec.HashInput)); got != want {
			t.Errorf("%s: content hash: got %x, want %x", vec.Name, got, want)
		}
		if got := string(e.essence()); got != vec.SignedBytes {
			t.Errorf("%s: signed bytes\ngot  %s\nwant %s", vec.Name, got, vec.SignedBytes)
		}
		reference := e.ReferenceHash()
		if got := signing.EncodeBase64(reference[:]); got != vec.ReferenceHash {
			t.Errorf("%s: reference hash: got %s, want %s", vec.Name, got, vec.ReferenceHash)
		}
		if err := VerifySignature(e, "domain", "ed25519:1", key.Public()); err != nil {
			t.Errorf("%s: %v", vec.Name, err)
		}
	}
}

func TestRedactionRules(t *testing.T) {
	var file struct {
		Versions map[matrix.RoomVersion]struct {
			Top     []string                   `json:"top_level"`
			Content map[string]json.RawMessage `json:"content"`
		} `json:"versions"`
	}
	readVectors(t, "redaction-rules.json", &file)
	for _, v := range Versions() {
		want := file.Versions[v.ID]
		if got := sortedKeys(v.Redaction.top); !slices.Equal(got, sorted(want.Top)) {
			t.Errorf("version %s: top level: got %v, want %v", v.ID, got, sorted(want.Top))
		}
		for typ := range v.Redaction.content {
			if want.Content[typ] == nil {
				t.Errorf("version %s: %s keeps content, want none", v.ID, typ)
			}
		}
		for typ, raw := range want.Content {
			if string(raw) == `"*"` {
				if !v.Redaction.whole[typ] {
					t.Errorf("version %s: %s loses content, want all kept", v.ID, typ)
				}
				continue
			}
			var keys []string
			if err := json.Unmarshal(raw, &keys); err != nil {
				t.Fatal(err)
			}
			got := sortedKeys(v.Redaction.content[typ])
			for outer, inner := range v.Redaction.nested[typ] {
				got = append(got, outer+"."+inner)
			}
			if slices.Sort(got); !slices.Equal(got, sorted(keys)) {
				t.Errorf("version %s: %s: got %v, want %v", v.ID, typ, got, keys)
			}
		}
	}
}

func TestVersionFeatures(t *testing.T) {
	type features struct {
		Stable              bool     `json:"stable"`
		CreateInAuthEvents  bool     `json:"create_in_auth_events"`
		StateResolution     string   `json:"state_resolution"`
		Signatures          []string `json:"signatures_required"`
		EnforceKeyValidity  bool     `json:"enforce_key_valid_until_ts"`
		StrictJSON          bool     `json:"strict_canonical_json"`
		RedactsKey          string   `json:"redacts_key"`
		RedactionRule       bool     `json:"redaction_checked_in_auth_rules"`
		AliasesRule         bool     `json:"aliases_auth_rule"`
		NotificationLevels  bool     `json:"notifications_power_level_checked"`
		StringLevels        bool     `json:"power_level_strings_accepted"`
		FloatLevels         bool     `json:"power_level_floats_accepted"`
		Knock               bool     `json:"knock"`
		RestrictedJoins     bool     `json:"restricted_join_rule"`
		KnockRestricted     bool     `json:"knock_restricted"`
		CreatorFrom         string   `json:"creator_from"`
		AdditionalCreators  bool     `json:"additional_creators"`
		OldTopLevelFields   bool     `json:"top_level_origin_prev_state_membership_protected"`
		AuthAndPrevEvents   string   `json:"auth_and_prev_events"`
		EventIDInsideOfPDUs struct {
			InPDU bool `json:"in_pdu"`
		} `json:"event_id"`
	}
	var file struct {
		Versions map[matrix.RoomVersion]features `json:"versions"`
	}
	readVectors(t, "room-versions.json", &file)
	resolutions := map[StateResolution]string{StateResolutionV1: "v1", StateResolutionV2: "v2", StateResolutionV21: "v2.1"}
	for _, v := range Versions() {
		want := file.Versions[v.ID]
		checks := map[string]bool{
			"stable":             v.Stable == want.Stable,
			"create":             v.CreateInAuthEvents == want.CreateInAuthEvents,
			"state resolution":   resolutions[v.StateResolution] == strings.Fields(want.StateResolution)[0],
			"event ID signer":    v.EventIDSigner == slices.Contains(want.Signatures, "server of event_id"),
			"key validity":       v.EnforceKeyValidity == want.EnforceKeyValidity,
			"strict JSON":        (v.JSON == canonical.Strict) == want.StrictJSON,
			"redacts":            (v.RedactsField == RedactsInContent) == strings.HasPrefix(want.RedactsKey, "content"),
			"redaction rule":     v.RedactionRule == want.RedactionRule,
			"aliases rule":       v.AliasesRule == want.AliasesRule,
			"notifications":      v.NotificationLevels == want.NotificationLevels,
			"string levels":      (v.Levels != IntegerLevels) == want.StringLevels,
			"float levels":       (v.Levels == LooseLevels) == want.FloatLevels,
			"knock":              v.Knock == want.Knock,
			"restricted":         v.RestrictedJoins == want.RestrictedJoins,
			"knock_restricted":   v.KnockRestricted == want.KnockRestricted,
			"creator":            (v.Creator == CreatorInContent) == (want.CreatorFrom == "content.creator"),
			"additional":         v.AdditionalCreators == want.AdditionalCreators,
			"old fields":         v.Redaction.top["origin"] == want.OldTopLevelFields,
			"references":         (v.References == PlainReferences) == (want.AuthAndPrevEvents == "list of event IDs"),
			"event ID in events": (v.EventIDs == ChosenEventIDs) == want.EventIDInsideOfPDUs.InPDU,
		}
		for name, ok := range checks {
			if !ok {
				t.Errorf("version %s: %s differs from %+v", v.ID, name, want)
			}
		}
	}
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	return sorted(keys)
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
