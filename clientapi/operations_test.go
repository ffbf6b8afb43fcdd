package clientapi

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

// operation is a row of testdata/operations.json: what the OpenAPI files of version 1.19 of the specification say of an
// endpoint. They are under the Apache License 2.0, copyright The Matrix.org Foundation C.I.C. and contributors.
// https://github.com/matrix-org/matrix-spec/tree/v1.19/data/api/client-server
type operation struct {
	Method   string  `json:"method"`
	Path     string  `json:"path"`
	Auth     string  `json:"auth"`  // none, access-token, access-token-optional
	Guest    string  `json:"guest"` // yes, no, or another word for some of it
	Response *schema `json:"response"`
}

// schema is the part of JSON Schema that answers are held against.
type schema struct {
	Type                 any                `json:"type"` // a name or several
	Enum                 []any              `json:"enum"`
	Required             []string           `json:"required"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Items                *schema            `json:"items"`
}

var operations = sync.OnceValue(func() []operation {
	text, err := os.ReadFile("testdata/operations.json")
	if err != nil {
		panic(err)
	}
	var all []operation
	if err := json.Unmarshal(text, &all); err != nil {
		panic(err)
	}
	return all
})

// conforms reports where an answer of status 200 is not what the specification says.
func (a *answer) conforms(method, path string) {
	a.t.Helper()
	path, _, _ = strings.Cut(path, "?")
	path = strings.Replace(path, "/_matrix/client/r0/", "/_matrix/client/v3/", 1)
	if a.text == "{}" && path == "/_matrix/client/v3/voip/turnServer" {
		return // that there is no relay, which the specification has no words for
	}
	if op := operationAt(method, path); op != nil && op.Response != nil {
		for _, wrong := range op.Response.check("the answer", a.json) {
			a.t.Errorf("%s: got %s; %s", a.request, a.text, wrong)
		}
	}
}

// operationAt finds what a path leads to, the one with the fewest parameters first.
func operationAt(method, path string) *operation {
	segments := strings.Split(path, "/")
	var found *operation
	fewest := math.MaxInt
	for i, op := range operations() {
		parameters := strings.Count(op.Path, "{")
		if op.Method == method && parameters < fewest && matchesPath(strings.Split(op.Path, "/"), segments) {
			found, fewest = &operations()[i], parameters
		}
	}
	return found
}

func matchesPath(pattern, segments []string) bool {
	return slices.EqualFunc(pattern, segments, func(p, s string) bool { return p == s || strings.HasPrefix(p, "{") })
}

// check returns what is wrong with a value, each with the place.
func (s *schema) check(at string, v any) []string {
	if s == nil {
		return nil
	}
	if s.Type != nil && !s.permits(typeOf(v)) {
		return []string{fmt.Sprintf("%s is %s, want %v", at, typeOf(v), s.Type)}
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		return []string{fmt.Sprintf("%s is %v, want one of %v", at, v, s.Enum)}
	}
	var wrong []string
	switch v := v.(type) {
	case map[string]any:
		wrong = s.checkObject(at, v)
	case []any:
		for i, item := range v {
			wrong = append(wrong, s.Items.check(fmt.Sprintf("%s[%d]", at, i), item)...)
		}
	}
	return wrong
}

func (s *schema) checkObject(at string, v map[string]any) []string {
	var wrong []string
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s has no %q", at, name))
		}
	}
	for name, member := range v {
		of := s.Properties[name]
		if of == nil {
			of = s.AdditionalProperties
		}
		wrong = append(wrong, of.check(at+"."+name, member)...)
	}
	return wrong
}

func (s *schema) permits(typ string) bool {
	names, several := s.Type.([]any)
	if !several {
		names = []any{s.Type}
	}
	return slices.Contains(names, any(typ)) || typ == "integer" && slices.Contains(names, any("number"))
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	default:
		return "object"
	}
}

func TestSchemaFindsWhatIsWrong(t *testing.T) {
	s := operationAt("GET", "/_matrix/client/v3/devices").Response
	for text, want := range map[string]string{
		`{"devices":[{"device_id":"A","last_seen_ts":12}]}`:  "",
		`{"devices":[{"device_id":"A"},{}]}`:                 `the answer.devices[1] has no "device_id"`,
		`{"devices":{}}`:                                     "the answer.devices is object, want array",
		`{"devices":[{"device_id":"A","last_seen_ts":1.5}]}`: "the answer.devices[0].last_seen_ts is number, want integer",
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.check("the answer", v), "; "); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// TestWhoMayCall holds the route table against the specification: who needs an access token, and what guests can do.
// https://spec.matrix.org/v1.19/client-server-api/#guest-access
func TestWhoMayCall(t *testing.T) {
	w := newWorld(t)
	guest := w.guest()
	served := 0
	for _, op := range operations() {
		path := parameter.Replace(op.Path)
		anybody := w.outcast.do(op.Method, path, nil)
		if anybody.at("errcode") == string(matrix.Unrecognized) {
			continue // not served
		}
		served++
		needsToken := anybody.at("errcode") == string(matrix.MissingToken)
		if want := op.Auth == "access-token"; needsToken != want && op.Auth != "access-token-optional" {
			t.Errorf("%s %s without a token: got %d %s, want a token to be needed: %t",
				op.Method, op.Path, anybody.status, anybody.text, want)
		}
		if op.Auth != "access-token" || op.Guest == "displayname-only" {
			continue // TestProfileOfGuests has the latter
		}
		a := guest.do(op.Method, path, nil)
		refused := a.at("errcode") == string(matrix.GuestAccessForbidden)
		if refused == (op.Guest == "yes") && !byRoom[op.Path] {
			t.Errorf("%s %s by a guest: got %d %s, want this for guests: %s", op.Method, op.Path, a.status, a.text, op.Guest)
		}
	}
	if served < 35 {
		t.Errorf("operations served: got %d, want at least 35", served)
	}
}

// byRoom are the operations whose route lets guests in, and where the room then decides about them.
var byRoom = map[string]bool{
	"/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}": true,
	"/_matrix/client/v3/join/{roomIdOrAlias}":                        true, // not listed, and all that clients call
}

// parameter puts something that is of the right form, and leads nowhere, in the place of parameters.
var parameter = strings.NewReplacer(
	"{userId}", "@nobody:example.org", "{roomId}", "!nowhere:example.org", "{roomIdOrAlias}", "!nowhere:example.org",
	"{roomAlias}", "%23nowhere:example.org", "{eventId}", "$none", "{keyName}", "m.tz", "{kind}", "override",
	"{eventType}", "m.room.message", "{receiptType}", "m.read", "{stateKey}", "x", "{txnId}", "1", "{type}", "x",
	"{deviceId}", "x", "{filterId}", "x", "{ruleId}", "x", "{tag}", "x",
)
