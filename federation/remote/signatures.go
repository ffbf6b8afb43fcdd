package remote

import (
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// takeSignatures returns the event with the signatures that server has in theirs, a canonical event. They are not
// checked.
func takeSignatures(e *event.Event, theirs []byte, server matrix.ServerName) (*event.Event, error) {
	obj, taken := e.JSON, 0
	for id := range signing.KeyIDs(theirs, server) {
		text, ok := canonical.String(canonical.Get(theirs, "signatures", string(server), string(id)))
		if !ok || taken == maxSignatures {
			continue
		}
		var err error
		if obj, err = signing.AddSignature(obj, server, id, text); err != nil {
			return nil, err
		}
		taken++
	}
	if taken == 0 {
		return nil, bad("no signature of %s on the event", server)
	}
	return reload(e, obj)
}

// reload returns e with further signatures, which obj has.
func reload(e *event.Event, obj []byte) (*event.Event, error) {
	if len(obj) > event.MaxBytes {
		return nil, bad("with its signatures the event is too long")
	}
	signed, err := event.Load(e.Version, e.ID, obj)
	if err != nil {
		return nil, err
	}
	signed.Redacted = e.Redacted
	return signed, nil
}
