package outbound

import (
	"strings"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// Authorization says who makes a request between homeservers.
// https://spec.matrix.org/v1.19/server-server-api/#request-authentication
type Authorization struct {
	Origin      matrix.ServerName
	Destination matrix.ServerName // empty: not said, as by old servers
	Key         signing.KeyID
	Signature   string
}

// String returns the header's value, in the one form that old servers understand, too.
func (a Authorization) String() string {
	return `X-Matrix origin="` + string(a.Origin) + `",destination="` + string(a.Destination) +
		`",key="` + string(a.Key) + `",sig="` + a.Signature + `"`
}

// SignedRequest is what of a request is signed.
type SignedRequest struct {
	Method      string
	URI         string // path and query as they are sent
	Origin      matrix.ServerName
	Destination matrix.ServerName
	Content     []byte // canonical JSON; nil: no body
}

// Message returns the canonical object that the signature covers.
func (r SignedRequest) Message() []byte {
	msg := make([]byte, 0, len(r.Content)+len(r.URI)+256)
	msg = append(msg, '{')
	if r.Content != nil {
		msg = append(msg, `"content":`...)
		msg = append(msg, r.Content...)
		msg = append(msg, ',')
	}
	msg = canonical.AppendString(append(msg, `"destination":`...), string(r.Destination))
	msg = canonical.AppendString(append(msg, `,"method":`...), r.Method)
	msg = canonical.AppendString(append(msg, `,"origin":`...), string(r.Origin))
	msg = canonical.AppendString(append(msg, `,"uri":`...), r.URI)
	return append(msg, '}')
}

// Sign makes the authorization of the request.
func (r SignedRequest) Sign(k signing.Key) Authorization {
	signature := signing.EncodeBase64(k.Sign(r.Message()))
	return Authorization{Origin: r.Origin, Destination: r.Destination, Key: k.ID(), Signature: signature}
}

const (
	scheme                = "x-matrix"
	maxAuthorizationBytes = 4096
)

// ParseAuthorization reads the value of an Authorization header. An error is a *matrix.Error with the status 401.
func ParseAuthorization(header string) (Authorization, error) {
	name, rest, _ := strings.Cut(header, " ")
	if !strings.EqualFold(name, scheme) || len(header) > maxAuthorizationBytes {
		return Authorization{}, unauthorized("the Authorization header is not X-Matrix")
	}
	values, ok := parseParameters(rest)
	if !ok {
		return Authorization{}, unauthorized("the Authorization header is malformed")
	}
	return newAuthorization(values)
}

func newAuthorization(values map[string]string) (a Authorization, err error) {
	if a.Origin, err = matrix.ParseServerName(values["origin"]); err != nil {
		return Authorization{}, unauthorized("the Authorization header names no origin")
	}
	if destination, said := values["destination"]; said {
		if a.Destination, err = matrix.ParseServerName(destination); err != nil {
			return Authorization{}, unauthorized("the Authorization header names a destination that is none")
		}
	}
	if a.Key, err = signing.ParseKeyID(values["key"]); err != nil {
		return Authorization{}, unauthorized("the Authorization header names no signing key")
	}
	if a.Signature = values["sig"]; a.Signature == "" {
		return Authorization{}, unauthorized("the Authorization header has no signature")
	}
	return a, nil
}

func unauthorized(message string) error {
	return matrix.Errorf(matrix.Unauthorized, "%s", message)
}

// parseParameters reads `name=value` pairs apart by commas, their names in lower case. None may come twice, lest two
// readers take a different one.
// https://www.rfc-editor.org/rfc/rfc9110#section-11.4
func parseParameters(text string) (map[string]string, bool) {
	values := map[string]string{}
	for {
		text = strings.TrimLeft(text, " \t,")
		if text == "" {
			return values, true
		}
		name, rest, found := strings.Cut(text, "=")
		name = strings.ToLower(strings.TrimRight(name, " \t"))
		value, rest, ok := parseValue(strings.TrimLeft(rest, " \t"))
		if _, twice := values[name]; !found || !ok || twice || !isToken(name) {
			return nil, false
		}
		values[name] = value
		text = strings.TrimLeft(rest, " \t")
		if text != "" && text[0] != ',' {
			return nil, false
		}
	}
}

// parseValue reads a value, in quotes or not, from the beginning of text.
func parseValue(text string) (value, rest string, ok bool) {
	if strings.HasPrefix(text, `"`) {
		return parseQuoted(text[1:])
	}
	// Old servers leave the quotes away, even if there are characters other than those of a token.
	end := strings.IndexAny(text, " \t,")
	if end < 0 {
		end = len(text)
	}
	value = text[:end]
	return value, text[end:], value != "" && !strings.ContainsAny(value, `"\`)
}

// parseQuoted reads up to the closing quote. A backslash stands before a character that is meant as it is.
func parseQuoted(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			i++
			if i == len(text) {
				return "", "", false
			}
		}
		b.WriteByte(text[i])
	}
	return "", "", false
}

// isToken looks at no more than parameter names need.
func isToken(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
	return s != "" && strings.Trim(s, allowed) == ""
}
