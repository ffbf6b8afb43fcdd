package httpapi

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

func TestHealthAndServices(t *testing.T) {
	ready := errors.New("migrating")
	route := func(path string) func(*Router) {
		return func(r *Router) { r.Get(path, Open(nil, whoami)) }
	}
	s := New(Settings{
		Ready: func(context.Context) error { return ready },
		APIs:  []API{{config.Client, route("/client")}, {config.Admin, route("/admin")}, {config.Client, route("/sync")}},
	})
	all := s.Handler()
	wantAnswer(t, ask(t, all, "GET /health", ""), 200, `{"status":"ok"}`)
	wantError(t, ask(t, all, "GET /ready", ""), 503, matrix.Unknown, "not ready")
	ready = nil
	wantAnswer(t, ask(t, all, "GET /ready", ""), 200, `{"status":"ready"}`)
	tests := []struct {
		services []config.Service
		served   string
	}{
		{nil, "/client /sync /admin /metrics /health /ready"},
		{[]config.Service{config.Client}, "/client /sync /health /ready"},
		{[]config.Service{config.Admin, config.Metrics}, "/admin /metrics /health /ready"},
	}
	for _, test := range tests {
		h := s.Handler(test.services...)
		for _, path := range []string{"/client", "/sync", "/admin", "/metrics", "/health", "/ready"} {
			want := 404
			if strings.Contains(test.served+" ", path+" ") {
				want = 200
			}
			if got := ask(t, h, "GET "+path, "").Code; got != want {
				t.Errorf("%v: %s: got %d, want %d", test.services, path, got, want)
			}
		}
	}
}

func TestDoubleRoutePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("two routes for one path: got no panic, want one")
		}
	}()
	serverOf(t, Settings{}, func(r *Router) {
		r.Get("/a", Open(nil, whoami))
		r.Get("/a", Open(nil, whoami))
	})
}

func TestMetrics(t *testing.T) {
	now := time.Unix(0, 0)
	h, _ := serverOf(t, Settings{
		Now:     func() time.Time { now = now.Add(2 * time.Millisecond); return now },
		Metrics: func(w io.Writer) error { _, err := io.WriteString(w, "others 1\n"); return err },
	}, func(r *Router) {
		r.Get("/rooms/{id}", Authed(known, nil, whoami))
		r.Get("/unused", Open(nil, whoami))
		r.Get("/panic", Open(nil, func(context.Context, *Call, *None) (*answer, error) { panic("bug") }))
	})
	ask(t, h, "GET /rooms/a\nAuthorization: Bearer secret", "")
	ask(t, h, "GET /rooms/b", "")
	ask(t, h, "GET /nowhere", "")
	ask(t, h, "POST /rooms/b", "")
	ask(t, h, "GET /panic", "")
	w := ask(t, h, "GET /metrics", "")
	for _, want := range []string{
		`myelin_http_requests_total{method="GET",route="/rooms/{id}",code="200"} 1`,
		`myelin_http_requests_total{method="GET",route="/rooms/{id}",code="401"} 1`,
		`myelin_http_requests_total{method="",route="unknown path",code="404"} 1`,
		`myelin_http_requests_total{method="",route="wrong method",code="405"} 1`,
		`myelin_http_request_duration_seconds_bucket{method="GET",route="/rooms/{id}",le="0.001"} 0`,
		`myelin_http_request_duration_seconds_bucket{method="GET",route="/rooms/{id}",le="0.0025"} 2`,
		`myelin_http_request_duration_seconds_bucket{method="GET",route="/rooms/{id}",le="+Inf"} 2`,
		`myelin_http_request_duration_seconds_sum{method="GET",route="/rooms/{id}"} 0.004`,
		`myelin_http_request_duration_seconds_count{method="GET",route="/rooms/{id}"} 2`,
		`myelin_http_requests_in_flight 1`,
		`myelin_http_panics_total 1`,
		`others 1`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("got no line %s", want)
		}
	}
	for _, unwanted := range []string{"alice", "nowhere", "/unused", "/rooms/b"} {
		if strings.Contains(w.Body.String(), unwanted) {
			t.Errorf("metrics name %s", unwanted)
		}
	}
	if t.Failed() {
		t.Log(w.Body)
	}
}
