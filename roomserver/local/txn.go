package local

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/lru"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A Txn is the transaction ID of a request, by which a repeat is known. The zero Txn is none.
// https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
type Txn struct {
	Path string // of the request, without the ID
	ID   string
}

// maxTxnIDBytes bounds what clients make us keep with an event.
const maxTxnIDBytes = 1024

const (
	maxRecentTxns = 20_000 // of which the event is at hand
	maxRepeaters  = 10_000 // users
)

// txns are the transactions in flight and the recent ones.
type txns struct {
	secret    [16]byte
	recent    *lru.Cache[int64, matrix.EventID]
	repeaters *lru.Cache[matrix.UserID, struct{}] // who sent one again that was no longer recent

	mu     sync.Mutex
	flying map[int64]*txnCall
}

type txnCall struct {
	done chan struct{} // closed after id and err were set
	id   matrix.EventID
	err  error
}

func newTxns(secret [16]byte) *txns {
	return &txns{
		secret: secret, flying: make(map[int64]*txnCall),
		recent:    lru.New[int64, matrix.EventID](maxRecentTxns),
		repeaters: lru.New[matrix.UserID, struct{}](maxRepeaters),
	}
}

// key is a keyed hash of all that makes a transaction what it is; never 0.
func (t *txns) key(by matrix.Requester, txn Txn) int64 {
	b := make([]byte, 0, 256)
	b = append(b, t.secret[:]...)
	for _, part := range [...]string{string(by.User), string(by.Device), txn.Path, txn.ID} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(b)
	return int64(binary.LittleEndian.Uint64(sum[:]) | 1)
}

// begin joins a transaction that is in flight, or begins it.
func (t *txns) begin(key int64) (call *txnCall, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if call = t.flying[key]; call != nil {
		return call, false
	}
	call = &txnCall{done: make(chan struct{})}
	t.flying[key] = call
	return call, true
}

func (t *txns) end(key int64, call *txnCall) {
	if call.err == nil {
		t.recent.Add(key, call.id, 1)
	}
	t.mu.Lock()
	delete(t.flying, key)
	t.mu.Unlock()
	close(call.done)
}

// once sends something at most once for a transaction. A repeat gets the ID of the first event: from
// memory, from the database, or, if the first is still in flight, when it has landed.
func (s *Users) once(ctx context.Context, by matrix.Requester, txn Txn, send func(context.Context, owner.SentAs) (matrix.EventID, error)) (matrix.EventID, error) {
	if txn.ID == "" {
		return send(ctx, owner.SentAs{})
	}
	if len(txn.ID) > maxTxnIDBytes {
		return "", matrix.Errorf(matrix.InvalidParam, "the transaction ID is longer than %d bytes", maxTxnIDBytes)
	}
	as := owner.SentAs{Key: s.txns.key(by, txn), Device: by.Device, ID: txn.ID}
	if id, ok := s.txns.recent.Get(as.Key); ok {
		return id, nil
	}
	call, first := s.txns.begin(as.Key)
	if !first {
		select {
		case <-call.done:
			return call.id, call.err
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	call.err = errAbandoned // stands if send panics
	defer s.txns.end(as.Key, call)
	// Others may wait for the outcome, so it no longer hangs on this caller's patience.
	call.id, call.err = s.sendOnce(context.WithoutCancel(ctx), by, as, send)
	return call.id, call.err
}

var errAbandoned = errors.New("local: a transaction was given up")

// sendOnce does not look for a transaction before it sends: nearly all are new, and the commit fails of one that is not. But
// others are then to be committed again with it; so of who has repeated one, all are looked for first from then on.
func (s *Users) sendOnce(ctx context.Context, by matrix.Requester, as owner.SentAs, send func(context.Context, owner.SentAs) (matrix.EventID, error)) (matrix.EventID, error) {
	if _, repeats := s.txns.repeaters.Get(by.User); repeats {
		if id, ok, err := s.sent(ctx, as); ok || err != nil {
			return id, err
		}
	}
	id, err := send(ctx, as)
	if err == nil {
		return id, nil
	}
	// Whatever it is refused for: what was sent once stays sent, also by who has left the room since.
	earlier, ok, found := s.sent(ctx, as)
	switch {
	case ok:
		s.txns.repeaters.Add(by.User, struct{}{}, 1)
		return earlier, nil
	case found != nil:
		return "", found
	}
	return "", err
}

func (s *Users) sent(ctx context.Context, as owner.SentAs) (matrix.EventID, bool, error) {
	id, found, err := rooms.SentAs(ctx, s.db, as.Key)
	if err != nil {
		return "", false, fmt.Errorf("look for a transaction: %w", err)
	}
	return id, found, nil
}

// InFlight returns how many transactions have begun and not ended.
func (s *Users) InFlight() int {
	s.txns.mu.Lock()
	defer s.txns.mu.Unlock()
	return len(s.txns.flying)
}
