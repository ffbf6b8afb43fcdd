package keys

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// maxSignatures is how many signatures of one server are looked at; each may name a key that has to be asked for.
const maxSignatures = 8

// task is one server's signature to check: one that was made with any of the keys will do.
type task struct {
	of     int // the number of the thing that is signed
	server matrix.ServerName
	ids    []signing.KeyID
	at     moment
	verify func(signing.KeyID, ed25519.PublicKey) error
}

// VerifyEvents checks the signatures of all servers that must have signed each event, with keys that could sign at its
// time. The answer has for each event nil, an error that is a *matrix.Error, or one that is ErrUnavailable.
// https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events
func (r *Ring) VerifyEvents(ctx context.Context, events []*event.Event) []error {
	tasks := make([]task, 0, len(events))
	for i, e := range events {
		var at moment
		if e.Version.EnforceKeyValidity {
			at.ms = e.OriginServerTS
		}
		for _, server := range e.RequiredSigners() {
			tasks = append(tasks, task{of: i, server: server, ids: firstKeyIDs(e.SignedBy(server)), at: at,
				verify: func(id signing.KeyID, public ed25519.PublicKey) error {
					return event.VerifySignature(e, server, id, public)
				}})
		}
	}
	return r.verify(ctx, tasks, len(events), r.forEvents)
}

// Object is a JSON object that a server must have signed.
type Object struct {
	JSON   []byte
	Server matrix.ServerName
	AtMS   int64 // when it was signed; 0: its key may be from any time
}

// VerifyObject checks one object, signed at a time in milliseconds; 0: at any. It makes a Ring a remote.Verifier.
func (r *Ring) VerifyObject(ctx context.Context, obj []byte, by matrix.ServerName, atMS int64) error {
	return r.VerifyObjects(ctx, []Object{{JSON: obj, Server: by, AtMS: atMS}})[0]
}

// VerifyObjects does for objects what VerifyEvents does for events.
// https://spec.matrix.org/v1.19/appendices/#checking-for-a-signature
func (r *Ring) VerifyObjects(ctx context.Context, objects []Object) []error {
	tasks := make([]task, 0, len(objects))
	var malformed []int
	for i, o := range objects {
		obj, err := canonical.JSON(o.JSON, canonical.Lenient)
		if err != nil {
			malformed = append(malformed, i)
			continue
		}
		ids := firstKeyIDs(slices.Collect(signing.KeyIDs(obj, o.Server)))
		tasks = append(tasks, task{of: i, server: o.Server, ids: ids, at: moment{ms: o.AtMS},
			verify: func(id signing.KeyID, public ed25519.PublicKey) error {
				return signing.VerifyJSON(obj, o.Server, id, public)
			}})
	}
	errs := r.verify(ctx, tasks, len(objects), r.forEvents)
	for _, i := range malformed {
		errs[i] = matrix.Errorf(matrix.BadJSON, "what is signed is not JSON")
	}
	return errs
}

func firstKeyIDs(ids []signing.KeyID) []signing.KeyID { return ids[:min(len(ids), maxSignatures)] }

// verify learns the keys that all tasks need and checks the signatures, side by side. The answer has the first error of
// each of the n things that are signed.
func (r *Ring) verify(ctx context.Context, tasks []task, n int, slots *slots) []error {
	errs := make([]error, n)
	w := wanted{}
	for _, t := range tasks {
		for _, id := range t.ids {
			w.add(t.server, id, t.at)
		}
	}
	found, err := r.find(ctx, w, slots)
	if err != nil {
		for i := range errs {
			errs[i] = errors.Join(ErrUnavailable, err)
		}
		return errs
	}
	results := make([]error, len(tasks))
	nowMS := r.nowMS()
	r.helpers.each(len(tasks), func(i int) { results[i] = tasks[i].check(found[tasks[i].server], nowMS) })
	for i, t := range tasks {
		if errs[t.of] == nil {
			errs[t.of] = results[i]
		}
	}
	return errs
}

// check looks for a signature that is right.
func (t *task) check(k *known, nowMS int64) error {
	if len(t.ids) == 0 {
		return matrix.Errorf(matrix.InvalidSignature, "no signature of %s", t.server)
	}
	var reason error
	for _, id := range t.ids {
		key, there := k.keys[id]
		var err error
		switch {
		case there && t.at.admits(key):
			err = t.verify(id, key.Public)
		case k.answered() || !k.lacks(id, t.at, nowMS):
			err = matrix.Errorf(matrix.InvalidSignature, "%s has no key %s that could sign this", t.server, id)
		default:
			err = fmt.Errorf("%w: %s of %s", ErrUnavailable, id, t.server)
		}
		if err == nil {
			return nil
		}
		// That a key cannot be had leaves more open than that another signature is wrong.
		if reason == nil || errors.Is(err, ErrUnavailable) {
			reason = err
		}
	}
	return reason
}
