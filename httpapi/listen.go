package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myelin-chat/myelin/config"
)

// Limits of connections.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// A server stops within a second: requests under way have this long to end by themselves, then their contexts are
// cancelled, then their connections closed.
const (
	stopPatience = 600 * time.Millisecond
	stopCancel   = 200 * time.Millisecond
)

// errStopping is the cause of contexts that end because the server stops.
var errStopping = errors.New("the server is stopping")

// Listening is a server with open ports.
type Listening struct {
	server  *Server
	ports   []net.Listener
	servers []*http.Server
	cancel  context.CancelCauseFunc // ends the requests
}

// Listen opens the ports. Requests are taken when [Listening.Run] runs. A server listens once.
func (s *Server) Listen(listeners []config.Listener) (*Listening, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	l := &Listening{server: s, cancel: cancel}
	for _, c := range listeners {
		if err := l.open(ctx, c); err != nil {
			l.Close()
			return nil, fmt.Errorf("listen on %s: %w", c.Address, err)
		}
	}
	return l, nil
}

func (l *Listening) open(ctx context.Context, c config.Listener) error {
	server := &http.Server{
		Handler:           l.server.Handler(c.Serve...),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(l.server.log.Handler(), slog.LevelDebug),
	}
	if c.TLS() {
		cert := &certificate{certFile: c.TLSCert, keyFile: c.TLSKey}
		if _, err := cert.get(nil); err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	}
	port, err := net.Listen("tcp", c.Address)
	if err != nil {
		return err
	}
	l.ports = append(l.ports, port)
	l.servers = append(l.servers, server)
	return nil
}

// Addrs are the addresses listened on, in the order of the configuration.
func (l *Listening) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(l.ports))
	for i, port := range l.ports {
		addrs[i] = port.Addr()
	}
	return addrs
}

// Close closes ports on which Run was never called.
func (l *Listening) Close() {
	l.cancel(errStopping)
	for _, port := range l.ports {
		_ = port.Close() // it accepted nothing that could be lost
	}
}

// Run serves until ctx ends or a port fails, then stops.
func (l *Listening) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, server := range l.servers {
		group.Go(func() error {
			err := serve(server, l.ports[i])
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve on %s: %w", l.ports[i].Addr(), err)
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		l.stop()
		return nil
	})
	return group.Wait()
}

func serve(server *http.Server, port net.Listener) error {
	if server.TLSConfig != nil {
		return server.ServeTLS(port, "", "")
	}
	return server.Serve(port)
}

// stop ends all requests, the patient way first.
func (l *Listening) stop() {
	close(l.server.stopping)
	if l.shutdown(stopPatience) {
		l.cancel(errStopping)
		return
	}
	l.cancel(errStopping)
	if l.shutdown(stopCancel) {
		return
	}
	for _, server := range l.servers {
		_ = server.Close() // what is left does not listen to anything
	}
}

// shutdown says whether all requests had ended in time.
func (l *Listening) shutdown(patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var group errgroup.Group
	for _, server := range l.servers {
		group.Go(func() error { return server.Shutdown(ctx) })
	}
	return group.Wait() == nil
}
