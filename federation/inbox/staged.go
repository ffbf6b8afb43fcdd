package inbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/servers"
)

// stagedWork is what is stored of a transaction. Transaction.work writes it.
type stagedWork struct {
	Rooms []stagedRoom `json:"rooms"`
}

type stagedRoom struct {
	RoomID   matrix.RoomID      `json:"room_id"`
	Version  matrix.RoomVersion `json:"room_version"`
	PDUs     []json.RawMessage  `json:"pdus"`
	Receipts []Receipt          `json:"receipts"`
}

// read makes the parcel of a staged room. Its events have passed all checks before they were stored.
func (r *stagedRoom) read() (*parcel, error) {
	v, known := event.VersionOf(r.Version)
	if !known {
		return nil, fmt.Errorf("room version %q", r.Version)
	}
	p := &parcel{room: r.RoomID, receipts: r.Receipts, loaded: true}
	for _, raw := range r.PDUs {
		e, err := event.Parse(v, raw)
		if err != nil {
			return nil, err
		}
		p.events = append(p.events, e)
	}
	return p, nil
}

// loadPage is how many transactions are listed at once.
const loadPage = 500

// load takes up what the run before has left.
func (in *Inbox) load(ctx context.Context) error {
	if err := in.suspects.load(ctx, in.DB); err != nil {
		return err
	}
	if _, err := in.DB.Commit(ctx, servers.CountStart{}); err != nil {
		return err
	}
	for after := int64(0); ; {
		page, err := servers.Staged(ctx, in.DB, after, loadPage)
		if err != nil {
			return err
		}
		for _, t := range page {
			if t.Num >= in.newest {
				return nil // taken in since this run began
			}
			if err := in.loadOne(ctx, t); err != nil {
				return err
			}
			after = t.Num
		}
		if len(page) < loadPage {
			return nil
		}
	}
}

func (in *Inbox) loadOne(ctx context.Context, t servers.StagedTransaction) error {
	parcels, size, err := in.readWork(ctx, t.Num)
	if err != nil {
		return err
	}
	if len(parcels) == 0 {
		in.finish(t.Num)
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, p := range parcels {
		// Twice it was not done when the server ended: perhaps that was no accident.
		p.careful = t.Starts > 1 || in.suspects.any(p.room, p.events)
	}
	in.backlog.bytes += size // whatever the limit: it is here
	in.backlog.byOrigin[t.Origin] += size
	in.backlog.add(&stagedTransaction{num: t.Num, origin: t.Origin, bytes: size}, parcels, in.Now())
	return nil
}

// readWork reads what is stored of a transaction. What cannot be read any more is left out, and the operator told.
func (in *Inbox) readWork(ctx context.Context, num int64) (parcels []*parcel, size int64, err error) {
	raw, err := servers.StagedWork(ctx, in.DB, num)
	if err != nil || raw == nil {
		return nil, 0, err
	}
	var work stagedWork
	if err := json.Unmarshal(raw, &work); err != nil {
		in.Log.Error("a staged transaction cannot be read", "number", num, "cause", err)
		return nil, 0, nil
	}
	for _, r := range work.Rooms {
		p, err := r.read()
		if err != nil {
			in.Log.Error("what is staged for a room cannot be read", "number", num, "room", r.RoomID, "cause", err)
			continue
		}
		parcels = append(parcels, p)
	}
	return parcels, int64(len(raw)), nil
}

// reload reads what parcels have let go of.
func (in *Inbox) reload(ctx context.Context, batch []*parcel) error {
	for _, p := range batch {
		if p.loaded {
			continue
		}
		stored, _, err := in.readWork(ctx, p.txn.num)
		if err != nil {
			return err
		}
		for _, s := range stored {
			if s.room == p.room {
				p.events, p.receipts = s.events, s.receipts
			}
		}
		p.loaded = true
	}
	return nil
}
