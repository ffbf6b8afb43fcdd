package event

import (
	"maps"
	"math"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// Version is a room version as a value: every rule that differs between room
// versions is a field of it, and nothing else asks for a version's number.
// https://spec.matrix.org/v1.19/rooms/
type Version struct {
	ID     matrix.RoomVersion
	Stable bool // as /capabilities tells clients

	// The event format.

	EventIDs     EventIDs       // where an event's ID comes from
	References   References     // the form of prev_events and auth_events
	RoomIDs      RoomIDs        // where a room's ID comes from
	JSON         canonical.Mode // how strictly the JSON of events is read
	MaxDepth     int64          // depth may not be greater
	Redaction    Redaction      // what a redacted event keeps
	RedactsField RedactsField   // where a redaction names its target
	LooseTexts   bool           // types and state keys that are too long in bytes, but not in characters, are rejected and not dropped

	// Signatures.

	EnforceKeyValidity bool // a signing key must be valid at origin_server_ts
	EventIDSigner      bool // the server in the event ID must have signed, too

	// State.

	StateResolution StateResolution

	// The authorisation rules; event/auth says where each is asked.

	Creator             Creator     // who made the room
	CreatorPower        Power       // what the creators may do
	CreateInAuthEvents  bool        // the create event is selected as auth event
	AliasesRule         bool        // m.room.aliases has a rule of its own
	RedactionRule       bool        // m.room.redaction is checked by the auth rules
	NotificationLevels  bool        // changes to notifications need power
	Levels              LevelValues // what may stand for a power level
	Knock               bool        // the membership and join rule knock
	RestrictedJoins     bool        // the join rule restricted
	KnockRestricted     bool        // the join rule knock_restricted
	AdditionalCreators  bool        // content.additional_creators of the create event
	CreatorsOutOfLevels bool        // creators may not be listed in power levels
}

// EventIDs says where the ID of an event comes from.
type EventIDs uint8

// The origins of event IDs.
const (
	ChosenEventIDs  EventIDs = iota // chosen by the sender's server, inside the event
	HashEventIDs                    // reference hash in standard Base64
	URLSafeEventIDs                 // reference hash in URL-safe Base64
)

// References is the form in which an event names other events.
type References uint8

// The forms of references.
const (
	HashedReferences References = iota // [event ID, {"sha256": reference hash}]
	PlainReferences                    // event ID
)

// RoomIDs says where the ID of a room comes from.
type RoomIDs uint8

// The origins of room IDs.
const (
	ChosenRoomIDs     RoomIDs = iota // "!opaque:domain", chosen by the creating server
	CreateHashRoomIDs                // the create event's ID with "!" for "$"; that event has no room_id
)

// RedactsField says where a redaction names its target.
type RedactsField uint8

// The places of redacts.
const (
	RedactsAtTop RedactsField = iota
	RedactsInContent
)

// StateResolution names an algorithm for merging states.
type StateResolution uint8

// The state resolution algorithms.
const (
	StateResolutionV1 StateResolution = iota
	StateResolutionV2
	StateResolutionV21
)

// Creator says who counts as the creator of a room.
type Creator uint8

// The origins of the creator.
const (
	CreatorInContent Creator = iota // content.creator of the create event
	CreatorIsSender                 // the sender of the create event
)

// Power says what creators may do.
type Power uint8

// The powers of creators.
const (
	CreatorHundred  Power = iota // level 100 while there is no power levels event
	CreatorInfinite              // more than any level, always
)

// LevelValues says what may stand for a power level.
type LevelValues uint8

// The forms of power levels.
const (
	LooseLevels   LevelValues = iota // integers, strings of integers, floats (truncated)
	StringLevels                     // integers, strings of integers
	IntegerLevels                    // integers
)

var versions = chain()

var byID = func() map[matrix.RoomVersion]*Version {
	m := make(map[matrix.RoomVersion]*Version, len(versions))
	for _, v := range versions {
		m[v.ID] = v
	}
	return m
}()

// VersionOf returns the room version named id, if this server knows it.
func VersionOf(id matrix.RoomVersion) (*Version, bool) {
	v, ok := byID[id]
	return v, ok
}

// Versions returns every known room version, oldest first.
func Versions() []*Version { return slices.Clone(versions) }

// chain builds the room versions, each from the one before.
func chain() []*Version {
	first := versions1to6()
	return append(first, versions7to12(*first[len(first)-1])...)
}

func versions1to6() []*Version {
	v1 := Version{
		ID: "1", Stable: true, JSON: canonical.Lenient, MaxDepth: math.MaxInt64,
		Redaction: redactionV1, EventIDSigner: true, CreateInAuthEvents: true,
		AliasesRule: true, RedactionRule: true, LooseTexts: true,
	}

	v2 := v1
	v2.ID = "2"
	v2.StateResolution = StateResolutionV2

	v3 := v2
	v3.ID = "3"
	v3.EventIDs = HashEventIDs
	v3.References = PlainReferences
	v3.EventIDSigner = false
	v3.RedactionRule = false

	v4 := v3
	v4.ID = "4"
	v4.EventIDs = URLSafeEventIDs

	v5 := v4
	v5.ID = "5"
	v5.EnforceKeyValidity = true

	v6 := v5
	v6.ID = "6"
	v6.JSON = canonical.Strict
	v6.MaxDepth = 1<<53 - 1
	v6.Levels = StringLevels
	v6.AliasesRule = false
	v6.NotificationLevels = true
	v6.Redaction = v5.Redaction.without(TypeAliases)

	return []*Version{&v1, &v2, &v3, &v4, &v5, &v6}
}

func versions7to12(v6 Version) []*Version {
	v7 := v6
	v7.ID = "7"
	v7.Knock = true

	v8 := v7
	v8.ID = "8"
	v8.RestrictedJoins = true
	v8.Redaction = v7.Redaction.with(TypeJoinRules, "allow")

	v9 := v8
	v9.ID = "9"
	v9.Redaction = v8.Redaction.with(TypeMember, "join_authorised_via_users_server")

	v10 := v9
	v10.ID = "10"
	v10.Levels = IntegerLevels
	v10.KnockRestricted = true

	v11 := v10
	v11.ID = "11"
	v11.Creator = CreatorIsSender
	v11.RedactsField = RedactsInContent
	v11.LooseTexts = false
	v11.Redaction = redactionV11(v10.Redaction)

	v12 := v11
	v12.ID = "12"
	v12.StateResolution = StateResolutionV21
	v12.RoomIDs = CreateHashRoomIDs
	v12.CreateInAuthEvents = false
	v12.CreatorPower = CreatorInfinite
	v12.AdditionalCreators = true
	v12.CreatorsOutOfLevels = true

	return []*Version{&v7, &v8, &v9, &v10, &v11, &v12}
}

// Redaction says what the redaction algorithm leaves of an event.
// https://spec.matrix.org/v1.19/client-server-api/#redactions
type Redaction struct {
	top     map[string]bool            // keys of the event
	content map[string]map[string]bool // per event type, keys of content
	nested  map[string]map[string]string
	whole   map[string]bool // event types whose content is kept whole
}

// redactionV1 is https://spec.matrix.org/v1.19/rooms/v1/#redactions
var redactionV1 = Redaction{
	top: set("event_id", "type", "room_id", "sender", "state_key", "content", "hashes",
		"signatures", "depth", "prev_events", "prev_state", "auth_events", "origin",
		"origin_server_ts", "membership"),
	content: map[string]map[string]bool{
		TypeMember:    set("membership"),
		TypeCreate:    set("creator"),
		TypeJoinRules: set("join_rule"),
		TypePowerLevels: set("ban", "events", "events_default", "kick", "redact",
			"state_default", "users", "users_default"),
		TypeAliases:           set("aliases"),
		TypeHistoryVisibility: set("history_visibility"),
	},
}

// redactionV11 changes r to https://spec.matrix.org/v1.19/rooms/v11/#redactions
func redactionV11(r Redaction) Redaction {
	r = r.with(TypePowerLevels, "invite").with(TypeRedaction, "redacts").without(TypeCreate)
	r.top = maps.Clone(r.top)
	for _, key := range []string{"origin", "membership", "prev_state"} {
		delete(r.top, key)
	}
	r.whole = set(TypeCreate)
	r.nested = map[string]map[string]string{TypeMember: {"third_party_invite": "signed"}}
	return r
}

// with returns r, keeping also the keys of the content of events of type typ.
func (r Redaction) with(typ string, keys ...string) Redaction {
	r.content = maps.Clone(r.content)
	kept := set(keys...)
	maps.Copy(kept, r.content[typ])
	r.content[typ] = kept
	return r
}

// without returns r, keeping nothing of the content of events of type typ.
func (r Redaction) without(typ string) Redaction {
	r.content = maps.Clone(r.content)
	delete(r.content, typ)
	return r
}

func set(keys ...string) map[string]bool {
	m := make(map[string]bool, len(keys))
	for _, key := range keys {
		m[key] = true
	}
	return m
}

// Restricts says whether a join rule lets in who is in another room.
// https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms
func (v *Version) Restricts(joinRule string) bool {
	return joinRule == "restricted" && v.RestrictedJoins || joinRule == "knock_restricted" && v.KnockRestricted
}
