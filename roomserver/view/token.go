package view

import (
	"strconv"
	"strings"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// SyncToken is what a client holds between two syncs: how far it has read.
// Clients treat its text as opaque.
type SyncToken struct {
	Incarnation string           // of the database; a restored backup has another
	Position    storage.Position // everything durable up to here was told
	ToDevice    storage.Position // to-device messages up to here were told
	Boot        string           // of the process that counted Ephemeral
	Ephemeral   int64            // typing and presence up to here were told
}

// String is the text handed to clients: s<incarnation>_<position>_<to-device>_<boot>_<ephemeral>.
func (t SyncToken) String() string { return string(t.Append(make([]byte, 0, 64))) }

// Append appends the text to b. It needs no escapes in JSON.
func (t SyncToken) Append(b []byte) []byte {
	b = append(b, 's')
	b = append(b, t.Incarnation...)
	b = append(b, '_')
	b = strconv.AppendInt(b, int64(t.Position), 10)
	b = append(b, '_')
	b = strconv.AppendInt(b, int64(t.ToDevice), 10)
	b = append(b, '_')
	b = append(b, t.Boot...)
	b = append(b, '_')
	return strconv.AppendInt(b, t.Ephemeral, 10)
}

// ParseSyncToken is the reverse of String. The error is M_INVALID_PARAM.
func ParseSyncToken(text string) (SyncToken, error) {
	parts := strings.Split(text, "_")
	if len(parts) != 5 || !strings.HasPrefix(parts[0], "s") {
		return SyncToken{}, badToken(text)
	}
	position, ok1 := number(parts[1])
	toDevice, ok2 := number(parts[2])
	ephemeral, ok3 := number(parts[4])
	if !ok1 || !ok2 || !ok3 {
		return SyncToken{}, badToken(text)
	}
	return SyncToken{
		Incarnation: parts[0][1:],
		Position:    storage.Position(position), ToDevice: storage.Position(toDevice),
		Boot: parts[3], Ephemeral: ephemeral,
	}, nil
}

// Gap is a place between two events of a room: just after the event, or where
// the event would stand, of the order it names.
type Gap rooms.Order

// Before returns the gap just before e.
func Before(e *rooms.Event) Gap { return Gap{Anchor: e.Order.Anchor, Sub: e.Order.Sub - 1} }

// After returns the gap just after e.
func After(e *rooms.Event) Gap { return Gap(e.Order) }

// At returns the gap after everything up to a position of the log.
func At(p storage.Position) Gap { return Gap{Anchor: p} }

// Position is the latest position of the log that lies wholly before g: at it, the room was as g finds it.
func (g Gap) Position() storage.Position {
	if g.Sub < 0 {
		return g.Anchor - 1
	}
	return g.Anchor
}

func (g Gap) compare(h Gap) int { return rooms.Order(g).Compare(rooms.Order(h)) }

// String is the text handed to clients: t<anchor>_<sub>.
func (g Gap) String() string {
	b := append(make([]byte, 0, 24), 't')
	b = strconv.AppendInt(b, int64(g.Anchor), 10)
	b = append(b, '_')
	return string(strconv.AppendInt(b, g.Sub, 10))
}

// ParseGap reads the text of a gap, or of a sync token, which stands for the gap
// after all it covers. The error is M_INVALID_PARAM.
func ParseGap(text string) (Gap, error) {
	if strings.HasPrefix(text, "s") {
		t, err := ParseSyncToken(text)
		return At(t.Position), err
	}
	anchor, sub, found := strings.Cut(strings.TrimPrefix(text, "t"), "_")
	a, errA := strconv.ParseInt(anchor, 10, 64)
	s, errS := strconv.ParseInt(sub, 10, 64)
	if !found || !strings.HasPrefix(text, "t") || errA != nil || errS != nil || a < 0 || s > 0 {
		return Gap{}, badToken(text)
	}
	return Gap{Anchor: storage.Position(a), Sub: s}, nil
}

func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}

// maxShownToken bounds how much of a wrong token an error repeats.
const maxShownToken = 60

func badToken(text string) error {
	if len(text) > maxShownToken {
		text = text[:maxShownToken] + "..."
	}
	return matrix.Errorf(matrix.InvalidParam, "%q is not a token of this server", text)
}
