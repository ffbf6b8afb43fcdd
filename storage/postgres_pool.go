package storage

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// idleCheck is how long a connection may have been idle before it is tried out.
const idleCheck = time.Second

// postgresPool keeps the connections that read. They are made when needed and kept. (The pool of pgx
// would bring one more module for these few lines.)
type postgresPool struct {
	config *pgx.ConnConfig
	slots  chan struct{} // one for each connection in use

	mu     sync.Mutex
	idle   []idleConn // the one used last is last
	closed bool
}

// idleConn is a connection that nobody uses, and since when.
type idleConn struct {
	conn  *pgx.Conn
	since time.Time
}

// acquire returns a connection that works, as far as can be known.
func (p *postgresPool) acquire(ctx context.Context) (*pgx.Conn, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		conn, since, err := p.takeIdle()
		switch {
		case err != nil:
			<-p.slots
			return nil, err
		case conn == nil:
			conn, err := pgx.ConnectConfig(ctx, p.config)
			if err != nil {
				<-p.slots
				return nil, contextError(ctx, &storedError{ErrUnavailable, err})
			}
			return conn, nil
		case time.Since(since) < idleCheck || conn.Ping(ctx) == nil:
			return conn, nil
		}
		closeNow(conn)
		if err := ctx.Err(); err != nil {
			<-p.slots
			return nil, err
		}
	}
}

// takeIdle takes the one used last, so that those that are too many grow old.
func (p *postgresPool) takeIdle() (conn *pgx.Conn, since time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, since, ErrClosed
	}
	if len(p.idle) == 0 {
		return nil, since, nil
	}
	last := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return last.conn, last.since, nil
}

// release takes a connection back. One that is broken, or in a transaction still, is closed.
func (p *postgresPool) release(conn *pgx.Conn) {
	defer func() { <-p.slots }()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || conn.IsClosed() || conn.PgConn().IsBusy() || conn.PgConn().TxStatus() != 'I' {
		closeNow(conn)
		return
	}
	p.idle = append(p.idle, idleConn{conn, time.Now()})
}

// close closes the connections; those in use when they are released.
func (p *postgresPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		closeNow(c.conn)
	}
	p.idle = nil
}

// closeNow closes a connection without waiting for the server.
func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	conn.Close(ctx)
}
