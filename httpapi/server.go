package httpapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// Settings are what a [Server] is made of. Only APIs is needed.
type Settings struct {
	APIs []API
	// Ready says whether the server can do its work, for /ready; nil: it always can.
	Ready func(context.Context) error
	// Metrics writes what other packages count, in Prometheus' text format, after what is counted here.
	Metrics func(io.Writer) error
	// TrustedProxies are believed what they say of their clients' addresses, as loopback addresses are.
	TrustedProxies []netip.Prefix
	Log            *slog.Logger     // nil: nothing is logged
	Now            func() time.Time // nil: the clock
}

// API is a part of what is served: its service, by which listeners choose, and its route table.
type API struct {
	Service config.Service
	Routes  func(*Router)
}

// Server is all APIs together.
type Server struct {
	log      *slog.Logger
	now      func() time.Time
	ready    func(context.Context) error
	others   func(io.Writer) error
	proxies  []netip.Prefix
	services []service

	unknown, wrongMethod route // where there is none

	inFlight, panics atomic.Int64
	stopping         chan struct{} // closed when the server begins to stop
}

type service struct {
	name   config.Service
	routes []*route
}

// New makes a server. Two routes for the same method and path are a bug, and panic when they are to be served together.
func New(s Settings) *Server {
	server := &Server{
		log: s.Log, now: s.Now, ready: s.Ready, others: s.Metrics, proxies: s.TrustedProxies,
		unknown:     unrecognized("unknown path", http.StatusNotFound),
		wrongMethod: unrecognized("wrong method", http.StatusMethodNotAllowed),
		stopping:    make(chan struct{}),
	}
	if server.log == nil {
		server.log = slog.New(slog.DiscardHandler)
	}
	if server.now == nil {
		server.now = time.Now
	}
	if server.ready == nil {
		server.ready = func(context.Context) error { return nil }
	}
	for _, api := range s.APIs {
		server.add(api.Service, api.Routes)
	}
	server.add(everywhere, server.healthRoutes)
	server.add(config.Metrics, server.metricsRoutes)
	return server
}

// everywhere is the service of what every listener serves.
const everywhere config.Service = ""

func (s *Server) add(name config.Service, list func(*Router)) {
	var r Router
	list(&r)
	s.services = append(s.services, service{name, r.routes})
}

// Handler serves the services named, or all if none is named; always /health and /ready.
func (s *Server) Handler(services ...config.Service) http.Handler {
	chosen := config.Listener{Serve: services}
	var routes []*route
	for _, service := range s.services {
		if service.name == everywhere || chosen.Serves(service.name) {
			routes = append(routes, service.routes...)
		}
	}
	return newMux(s, routes)
}

func (s *Server) healthRoutes(r *Router) {
	r.Get("/health", Open(nil, s.health))
	r.Get("/ready", Open(nil, s.answerReady))
}

type healthResponse struct {
	Status string `json:"status"`
}

// health says that the process lives.
func (s *Server) health(context.Context, *Call, *None) (*healthResponse, error) {
	return &healthResponse{Status: "ok"}, nil
}

// answerReady says whether requests should be sent here. The cause is for the operator, in the log.
func (s *Server) answerReady(ctx context.Context, _ *Call, _ *None) (*healthResponse, error) {
	if err := s.ready(ctx); err != nil {
		s.log.LogAttrs(ctx, slog.LevelInfo, "not ready", slog.Any("cause", err))
		return nil, matrix.Errorf(matrix.Unknown, "not ready").WithStatus(http.StatusServiceUnavailable)
	}
	return &healthResponse{Status: "ready"}, nil
}
