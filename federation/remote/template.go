package remote

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/url"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// A Visit is a user of ours coming to, or going from, a room of which a server is asked that resides in it.
type Visit struct {
	Server matrix.ServerName
	Room   matrix.RoomID
	User   matrix.UserID
}

// A Template is what a resident server proposes as the membership event of a visit. It is not signed, ever: Proto makes
// an event of ours, for which it is asked for little.
type Template struct {
	Visit       Visit
	Membership  event.Membership // that was asked for
	RoomVersion matrix.RoomVersion
	Event       []byte
}

// TemplateResponse is the answer of make_join, make_leave and make_knock.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid
type TemplateResponse struct {
	RoomVersion matrix.RoomVersion `json:"room_version,omitempty"`
	Event       json.RawMessage    `json:"event"`
}

// MakeJoin asks for the template of a join.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid
func (c *Client) MakeJoin(ctx context.Context, v Visit) (Template, error) {
	return c.template(ctx, v, step{"make_join", event.Join, allVersions()})
}

// MakeLeave asks for the template of a leave, with which an invite is rejected or a knock taken back, too.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid
func (c *Client) MakeLeave(ctx context.Context, v Visit) (Template, error) {
	return c.template(ctx, v, step{"make_leave", event.Leave, nil})
}

// MakeKnock asks for the template of a knock.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_knockroomiduserid
func (c *Client) MakeKnock(ctx context.Context, v Visit) (Template, error) {
	return c.template(ctx, v, step{"make_knock", event.Knock, allVersions()})
}

// step is how a template is asked for.
type step struct {
	endpoint   string
	membership event.Membership
	versions   []string // that are said to be supported
}

func allVersions() []string {
	var ids []string
	for _, v := range event.Versions() {
		ids = append(ids, string(v.ID))
	}
	return ids
}

func (c *Client) template(ctx context.Context, v Visit, s step) (Template, error) {
	uri := outbound.Path("_matrix", "federation", "v1", s.endpoint, string(v.Room), string(v.User))
	if len(s.versions) > 0 {
		uri += "?" + url.Values{"ver": s.versions}.Encode()
	}
	var answer TemplateResponse
	err := c.answer(ctx, outbound.Call{
		To: v.Server, URI: uri, MaxBytes: maxTemplateBytes, Timeout: handshakeTimeout,
	}, &answer)
	if err != nil {
		return Template{}, err
	}
	return Template{Visit: v, Membership: s.membership, RoomVersion: answer.RoomVersion, Event: answer.Event}, nil
}

// firstVersion is that of rooms of which the resident server does not say it.
const firstVersion = "1"

// Version returns the version of the room, as the resident server says.
func (t Template) Version() (*event.Version, error) {
	id := t.RoomVersion
	if id == "" && t.Membership != event.Knock {
		id = firstVersion
	}
	v, known := event.VersionOf(id)
	if !known {
		return nil, matrix.Errorf(matrix.UnsupportedRoomVersion, "this server does not know the room version %q", id)
	}
	if _, named := t.Visit.Room.Server(); named != (v.RoomIDs == event.ChosenRoomIDs) {
		return nil, bad("a room of version %s cannot have the ID %s", v.ID, t.Visit.Room)
	}
	if t.Membership == event.Knock && !v.Knock {
		return nil, bad("a room of version %s cannot be knocked on", v.ID)
	}
	return v, nil
}

// Proto returns the event to build and sign. Room, user, type and membership are those that we asked for; content is
// ours, too, and must have the membership. The template gives prev events, auth events and depth, within the limits of
// the format, and the user that vouches for the join, if the room version has such joins and the user is of the server
// that was asked. A template that is of anything else than was asked for is an error; what else it has is not looked
// at.
// https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
func (t Template) Proto(content []byte, nowMS int64) (*event.Version, event.Proto, error) {
	v, err := t.Version()
	if err != nil {
		return nil, event.Proto{}, err
	}
	// Lenient in all versions: this is not an event, and what is taken of it is checked by itself.
	theirs, err := canonical.JSON(t.Event, canonical.Lenient)
	if err != nil {
		return nil, event.Proto{}, bad("template: %w", err)
	}
	if err := t.checkSame(theirs); err != nil {
		return nil, event.Proto{}, err
	}
	user := string(t.Visit.User)
	p := event.Proto{
		Type: event.TypeMember, StateKey: &user, Sender: t.Visit.User, RoomID: t.Visit.Room, OriginServerTS: nowMS,
	}
	if p.Content, err = t.content(v, content, theirs); err != nil {
		return nil, event.Proto{}, err
	}
	if err := takeGraph(v, theirs, &p); err != nil {
		return nil, event.Proto{}, err
	}
	return v, p, nil
}

// checkSame checks that the template is of the event that was asked for.
func (t Template) checkSame(theirs []byte) error {
	for _, want := range []struct {
		value string
		path  []string
	}{
		{event.TypeMember, []string{"type"}},
		{string(t.Visit.Room), []string{"room_id"}},
		{string(t.Visit.User), []string{"sender"}},
		{string(t.Visit.User), []string{"state_key"}},
		{string(t.Membership), []string{"content", "membership"}},
	} {
		if got, ok := canonical.String(canonical.Get(theirs, want.path...)); !ok || got != want.value {
			return bad("template: %s is not %q", want.path[len(want.path)-1], want.value)
		}
	}
	return nil
}

const authoriserField = "join_authorised_via_users_server"

// content is ours, with the user that vouches for the join where there may be one.
func (t Template) content(v *event.Version, ours, theirs []byte) ([]byte, error) {
	ours, err := canonical.JSON(ours, canonical.Strict)
	if err != nil {
		return nil, err
	}
	if m, _ := canonical.String(canonical.Get(ours, "membership")); m != string(t.Membership) {
		return nil, matrix.Errorf(matrix.BadJSON, "the membership of the content is %q, %q was asked for", m, t.Membership)
	}
	ours = canonical.AppendWithout(nil, ours, authoriserField)
	raw := canonical.Get(theirs, "content", authoriserField)
	if raw == nil || !v.RestrictedJoins || t.Membership != event.Join {
		return ours, nil
	}
	text, _ := canonical.String(raw)
	via, err := matrix.ParseUserID(text)
	if err != nil || via.Server() != t.Visit.Server {
		return nil, bad("template: %s is not a user of %s", authoriserField, t.Visit.Server)
	}
	return canonical.AppendWith(nil, ours, authoriserField, canonical.AppendString(nil, string(via))), nil
}

// takeGraph takes over the place in the graph.
func takeGraph(v *event.Version, theirs []byte, p *event.Proto) (err error) {
	p.ReferenceHashes = map[matrix.EventID][sha256.Size]byte{}
	if p.PrevEvents, err = takeReferences(v, canonical.Get(theirs, "prev_events"), p.ReferenceHashes); err != nil {
		return bad("template: prev_events: %w", err)
	}
	if p.AuthEvents, err = takeReferences(v, canonical.Get(theirs, "auth_events"), p.ReferenceHashes); err != nil {
		return bad("template: auth_events: %w", err)
	}
	if n := len(p.PrevEvents); n == 0 || n > event.MaxPrevEvents {
		return bad("template: %d prev events", n)
	}
	if n := len(p.AuthEvents); n > event.MaxAuthEvents {
		return bad("template: %d auth events", n)
	}
	depth, ok := canonical.Int(canonical.Get(theirs, "depth"))
	if !ok || depth < 0 || depth > v.MaxDepth {
		return bad("template: the depth is not a number from 0 to %d", v.MaxDepth)
	}
	p.Depth = depth
	return nil
}

// takeReferences reads a list of events as the room version writes it.
func takeReferences(v *event.Version, raw []byte, hashes map[matrix.EventID][sha256.Size]byte) ([]matrix.EventID, error) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, bad("not a list")
	}
	var ids []matrix.EventID
	for element := range canonical.Elements(raw) {
		var hash []byte
		if v.References == event.HashedReferences {
			element, hash = splitReference(element)
		}
		text, _ := canonical.String(element)
		id, err := matrix.ParseEventID(text)
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids, id) {
			return nil, bad("%s comes twice", id)
		}
		// One more than is allowed is enough to see that there are too many.
		if ids = append(ids, id); len(ids) > event.MaxPrevEvents {
			return ids, nil
		}
		if v.References == event.HashedReferences {
			if len(hash) != sha256.Size {
				return nil, bad("%s has no hash", id)
			}
			hashes[id] = [sha256.Size]byte(hash)
		}
	}
	return ids, nil
}

// splitReference reads a pair of event ID and hashes, of which that by SHA-256 is returned.
func splitReference(pair []byte) (id, hash []byte) {
	if len(pair) == 0 || pair[0] != '[' {
		return nil, nil
	}
	n := 0
	for part := range canonical.Elements(pair) {
		switch {
		case n == 0:
			id = part
		case n == 1 && part[0] == '{':
			text, _ := canonical.String(canonical.Get(part, "sha256"))
			hash, _ = signing.DecodeBase64(text)
		default:
			return nil, nil
		}
		n++
	}
	return id, hash
}
