package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
)

// discard is an http.ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// rewound is a body that can be read again.
type rewound struct{ strings.Reader }

func (*rewound) Close() error { return nil }

type sendResponse struct {
	EventID string `json:"event_id"`
}

// BenchmarkRequest is what this package adds to net/http: no connection is in it.
func BenchmarkRequest(b *testing.B) {
	limit := NewLimit(config.Limit{PerSecond: 1e9, Burst: 1e9}, time.Now)
	h := New(Settings{APIs: []API{{config.Client, func(r *Router) {
		r.Put("/_matrix/client/v3/rooms/{roomID}/send/{eventType}/{txnID}",
			Authed(known, limit, func(_ context.Context, c *Call, in *RawBody) (*sendResponse, error) {
				return &sendResponse{c.Path("roomID")}, nil
			}))
		r.Put("/_matrix/client/v3/rooms/{roomID}/typing/{userID}",
			Authed(known, limit, func(_ context.Context, _ *Call, in *input) (*None, error) { return nil, nil }))
		r.Get("/_matrix/client/v3/sync",
			Authed(known, limit, func(_ context.Context, c *Call, _ *None) (*Raw, error) {
				_ = c.Query("timeout")
				return (*Raw)(&emptyObject), nil
			}))
	}}}}).Handler()
	const body = `{"text":"hello, world","count":1}`
	for _, bench := range []struct{ name, method, path, body string }{
		{"send", "PUT", "/_matrix/client/v3/rooms/!abcdefghijklmnopqr:example.org/send/m.room.message/m1234", body},
		{"typing", "PUT", "/_matrix/client/v3/rooms/!abcdefghijklmnopqr:example.org/typing/@a:b", body},
		{"sync", "GET", "/_matrix/client/v3/sync?since=s1_2_3_4&timeout=30000", ""},
		{"unknown", "GET", "/_matrix/client/v3/nothing", ""},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := httptest.NewRequest(bench.method, bench.path, nil)
			r.Header.Set("Authorization", "Bearer secret")
			r.ContentLength = int64(len(bench.body))
			w := &discard{http.Header{}}
			reader := &rewound{}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				reader.Reset(bench.body)
				r.Body = reader
				h.ServeHTTP(w, r)
			}
		})
	}
}

// BenchmarkConnection compares whole requests over a connection with those of a bare handler.
func BenchmarkConnection(b *testing.B) {
	h := New(Settings{APIs: []API{{config.Client, func(r *Router) {
		r.Get("/sync", Authed(known, nil, func(context.Context, *Call, *None) (*Raw, error) { return (*Raw)(&emptyObject), nil }))
	}}}}).Handler()
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = jsonType
		_, _ = w.Write(emptyObject)
	})
	for _, bench := range []struct {
		name string
		h    http.Handler
	}{{"bare", bare}, {"httpapi", h}} {
		b.Run(bench.name, func(b *testing.B) {
			server := httptest.NewServer(bench.h)
			defer server.Close()
			r, err := http.NewRequest("GET", server.URL+"/sync", nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer secret")
			b.ReportAllocs()
			for b.Loop() {
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
