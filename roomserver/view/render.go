package view

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Form says how events are to look.
type Form struct {
	Now        time.Time
	RoomID     bool     // with room_id: everywhere but in /sync
	Federation bool     // as servers see them, instead of as clients do
	NoPrevious bool     // without the content that a state event replaced
	Fields     []string // only these fields, in the dotted form of event_fields; nil: all
}

// Append writes the events as a JSON array.
func (v *Viewer) Append(ctx context.Context, dst []byte, events []Seen, form Form) ([]byte, error) {
	extra, err := v.extras(ctx, events, form)
	if err != nil {
		return nil, err
	}
	dst = slices.Grow(dst, aboutSize(events))
	dst = append(dst, '[')
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = v.appendOne(dst, e, extra[e.Num], form); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// aboutSize is how large events are in client format, about: what is beside the content differs little.
func aboutSize(events []Seen) int {
	const beside = 340
	size := 2
	for _, e := range events {
		size += len(e.Content) + beside
	}
	return size
}

// AppendOne writes one event.
func (v *Viewer) AppendOne(ctx context.Context, dst []byte, e Seen, form Form) ([]byte, error) {
	extra, err := v.extras(ctx, []Seen{e}, form)
	if err != nil {
		return nil, err
	}
	return v.appendOne(dst, e, extra[e.Num], form)
}

// extra is what the unsigned part of an event needs from other events.
type extra struct {
	previous *rooms.Event // the state event that this one replaced
	because  *rooms.Event // the redaction of this one
}

// extras loads what events need from others, together.
func (v *Viewer) extras(ctx context.Context, events []Seen, form Form) (map[int64]extra, error) {
	var all map[int64]extra
	for _, e := range events {
		replaces := e.IsState() && e.StateBefore != 0 && !form.NoPrevious
		if !replaces && e.RedactedBy == 0 {
			continue
		}
		var x extra
		if replaces {
			found, err := v.server.StateAt(v.Room, e.StateBefore).Known(ctx, e.StateID())
			if err != nil {
				return nil, err
			}
			x.previous = found[0]
		}
		if e.RedactedBy != 0 {
			found, err := v.server.Events(ctx, v.Room, []int64{e.RedactedBy})
			if err != nil {
				return nil, err
			}
			if len(found) == 1 {
				x.because = found[0]
			}
		}
		if all == nil {
			all = map[int64]extra{}
		}
		all[e.Num] = x
	}
	return all, nil
}

func (v *Viewer) appendOne(dst []byte, e Seen, x extra, form Form) ([]byte, error) {
	if len(form.Fields) > 0 {
		whole := v.appendWhole(nil, e, x, form)
		return appendFields(dst, whole, form.Fields)
	}
	return v.appendWhole(dst, e, x, form), nil
}

// appendWhole writes an event with all its fields.
func (v *Viewer) appendWhole(dst []byte, e Seen, x extra, form Form) []byte {
	if form.Federation {
		dst = append(dst, e.JSON[:len(e.JSON)-1]...)
	} else {
		dst = AppendFixed(dst, e.Event, form.RoomID)
	}
	dst = append(dst, `,"unsigned":{"age":`...)
	dst = strconv.AppendInt(dst, max(0, form.Now.UnixMilli()-e.OriginServerTS), 10)
	if e.Membership != "" {
		dst = append(dst, `,"membership":`...)
		dst = canonical.AppendString(dst, string(e.Membership))
	}
	if x.previous != nil {
		dst = append(dst, `,"prev_content":`...)
		dst = append(dst, x.previous.Content...)
		dst = append(dst, `,"prev_sender":`...)
		dst = canonical.AppendString(dst, string(x.previous.Sender))
		dst = append(dst, `,"replaces_state":`...)
		dst = canonical.AppendString(dst, string(x.previous.ID))
	}
	if x.because != nil {
		dst = append(dst, `,"redacted_because":`...)
		dst = AppendFixed(dst, x.because, form.RoomID)
		dst = append(dst, '}')
	}
	if e.TxnID != "" && e.TxnDevice == v.By.Device && e.Sender == v.By.User {
		dst = append(dst, `,"transaction_id":`...)
		dst = canonical.AppendString(dst, e.TxnID)
	}
	return append(dst, "}}"...)
}

// AppendFixed writes what of an event in client format is the same for every
// reader: an object that lacks unsigned and its closing brace.
// https://spec.matrix.org/v1.19/client-server-api/#room-event-format
func AppendFixed(dst []byte, e *rooms.Event, roomID bool) []byte {
	dst = append(dst, `{"content":`...)
	dst = appendContent(dst, e)
	dst = append(dst, `,"event_id":`...)
	dst = canonical.AppendString(dst, string(e.ID))
	dst = append(dst, `,"origin_server_ts":`...)
	dst = strconv.AppendInt(dst, e.OriginServerTS, 10)
	if e.Redacts != "" {
		dst = append(dst, `,"redacts":`...)
		dst = canonical.AppendString(dst, string(e.Redacts))
	}
	if roomID {
		dst = append(dst, `,"room_id":`...)
		dst = canonical.AppendString(dst, string(e.RoomID))
	}
	dst = append(dst, `,"sender":`...)
	dst = canonical.AppendString(dst, string(e.Sender))
	if e.StateKey != nil {
		dst = append(dst, `,"state_key":`...)
		dst = canonical.AppendString(dst, *e.StateKey)
	}
	dst = append(dst, `,"type":`...)
	return canonical.AppendString(dst, e.Type)
}

// appendContent writes the content. Redactions carry redacts in both places,
// whatever their room version says, so that old and new clients find it.
// https://spec.matrix.org/v1.19/client-server-api/#mroomredaction
func appendContent(dst []byte, e *rooms.Event) []byte {
	if e.Redacts == "" || canonical.Get(e.Content, "redacts") != nil {
		return append(dst, e.Content...)
	}
	dst = append(dst, `{"redacts":`...)
	dst = canonical.AppendString(dst, string(e.Redacts))
	if len(e.Content) > len("{}") {
		dst = append(dst, ',')
	}
	return append(dst, e.Content[1:]...)
}

// AppendStripped writes the stripped form of a state event.
// https://spec.matrix.org/v1.19/client-server-api/#stripped-state
func AppendStripped(dst []byte, e *event.Event) []byte {
	dst = append(dst, `{"content":`...)
	dst = append(dst, e.Content...)
	dst = append(dst, `,"sender":`...)
	dst = canonical.AppendString(dst, string(e.Sender))
	dst = append(dst, `,"state_key":`...)
	dst = canonical.AppendString(dst, e.StateID().StateKey)
	dst = append(dst, `,"type":`...)
	dst = canonical.AppendString(dst, e.Type)
	return append(dst, '}')
}

// appendFields writes only those fields of an event that event_fields names.
func appendFields(dst, whole []byte, fields []string) ([]byte, error) {
	var all map[string]any
	decoder := json.NewDecoder(bytes.NewReader(whole))
	decoder.UseNumber() // old room versions have integers that no float64 holds
	if err := decoder.Decode(&all); err != nil {
		return nil, err
	}
	picked := map[string]any{}
	for _, field := range fields {
		pick(picked, all, splitField(field))
	}
	data, err := json.Marshal(picked)
	return append(dst, data...), err
}

// pick copies the field at path from one object to another.
func pick(to, from map[string]any, path []string) {
	value, ok := from[path[0]]
	if !ok {
		return
	}
	if len(path) == 1 {
		to[path[0]] = value
		return
	}
	inner, ok := value.(map[string]any)
	if !ok {
		return
	}
	kept, ok := to[path[0]].(map[string]any)
	if !ok {
		kept = map[string]any{}
	}
	if pick(kept, inner, path[1:]); len(kept) > 0 {
		to[path[0]] = kept
	}
}

// splitField splits a dotted field name; a backslash makes the next dot or
// backslash an ordinary character.
func splitField(field string) []string {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(field); i++ {
		switch c := field[i]; {
		case c == '\\' && i+1 < len(field) && (field[i+1] == '.' || field[i+1] == '\\'):
			i++
			part.WriteByte(field[i])
		case c == '.':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(c)
		}
	}
	return append(parts, part.String())
}
