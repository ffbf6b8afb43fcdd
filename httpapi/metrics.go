package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// What is counted, with the help that Prometheus shows.
const (
	requestsName = "myelin_http_requests_total"
	requestsHelp = "Requests answered, by route and status; 499 means that the client had gone."
	durationName = "myelin_http_request_duration_seconds"
	durationHelp = "Time from a request's headers to its answer, long polls included."
	bytesName    = "myelin_http_response_bytes_total"
	bytesHelp    = "Bytes of answers' bodies."
	inFlightName = "myelin_http_requests_in_flight"
	inFlightHelp = "Requests that are being answered, waiting long polls included."
	panicsName   = "myelin_http_panics_total"
	panicsHelp   = "Requests that ended in a panic. Each is a bug."
)

// bounds are those of the buckets of durations.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second,
}

// statuses are counted one by one; any other is counted as the last.
var statuses = [...]int{
	200, 206, 302, 304, 400, 401, 403, 404, 405, 408, 409, 413, 416, 429, statusClientGone, 500, 502, 503, 504, 0,
}

// routeStats are the counts of one route. They are written by hand rather than by Prometheus' library, since a request
// then costs four additions and no look-up.
type routeStats struct {
	method, route string
	statuses      [len(statuses)]atomic.Int64
	durations     [len(bounds) + 1]atomic.Int64
	nanoseconds   atomic.Int64
	bytes         atomic.Int64
}

func (s *routeStats) observe(status int, took time.Duration, size int64) {
	i := slices.Index(statuses[:], status)
	if i < 0 {
		i = len(statuses) - 1
	}
	s.statuses[i].Add(1)
	bucket := 0
	for bucket < len(bounds) && took > bounds[bucket] {
		bucket++
	}
	s.durations[bucket].Add(1)
	s.nanoseconds.Add(int64(took))
	s.bytes.Add(size)
}

func (s *Server) metricsRoutes(r *Router) {
	r.Get("/metrics", Open(nil, s.answerMetrics))
}

func (s *Server) answerMetrics(context.Context, *Call, *None) (*Answer, error) {
	var text bytes.Buffer
	if err := s.writeMetrics(&text); err != nil {
		return nil, fmt.Errorf("write metrics: %w", err)
	}
	return &Answer{
		Header: http.Header{"Content-Type": {"text/plain; version=0.0.4; charset=utf-8"}},
		Body:   text.Bytes(),
	}, nil
}

func (s *Server) writeMetrics(dst io.Writer) error {
	w := bufio.NewWriter(dst)
	all := s.used()
	head(w, requestsName, "counter", requestsHelp)
	for _, stats := range all {
		stats.writeRequests(w)
	}
	head(w, durationName, "histogram", durationHelp)
	for _, stats := range all {
		stats.writeDurations(w)
	}
	head(w, bytesName, "counter", bytesHelp)
	for _, stats := range all {
		fmt.Fprintf(w, "%s{%s} %d\n", bytesName, stats.labels(), stats.bytes.Load())
	}
	single(w, inFlightName, "gauge", inFlightHelp, s.inFlight.Load())
	single(w, panicsName, "counter", panicsHelp, s.panics.Load())
	writeRuntime(w)
	if err := w.Flush(); err != nil {
		return err
	}
	if s.others == nil {
		return nil
	}
	return s.others(dst)
}

// used lists the counts of the routes that were ever asked for.
func (s *Server) used() []*routeStats {
	all := []*routeStats{s.unknown.stats, s.wrongMethod.stats}
	for _, service := range s.services {
		for _, r := range service.routes {
			all = append(all, r.stats)
		}
	}
	return slices.DeleteFunc(all, func(stats *routeStats) bool { return stats.count() == 0 })
}

func (s *routeStats) count() int64 {
	var n int64
	for i := range s.durations {
		n += s.durations[i].Load()
	}
	return n
}

func (s *routeStats) labels() string {
	return fmt.Sprintf(`method="%s",route="%s"`, s.method, labelEscapes.Replace(s.route))
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (s *routeStats) writeRequests(w io.Writer) {
	for i, status := range statuses {
		code := strconv.Itoa(status)
		if status == 0 {
			code = "other"
		}
		if n := s.statuses[i].Load(); n > 0 {
			fmt.Fprintf(w, "%s{%s,code=\"%s\"} %d\n", requestsName, s.labels(), code, n)
		}
	}
}

func (s *routeStats) writeDurations(w io.Writer) {
	labels := s.labels()
	var upTo int64
	for i, bound := range bounds {
		upTo += s.durations[i].Load()
		fmt.Fprintf(w, "%s_bucket{%s,le=\"%g\"} %d\n", durationName, labels, bound.Seconds(), upTo)
	}
	upTo += s.durations[len(bounds)].Load()
	fmt.Fprintf(w, "%s_bucket{%s,le=\"+Inf\"} %d\n", durationName, labels, upTo)
	fmt.Fprintf(w, "%s_sum{%s} %g\n", durationName, labels, time.Duration(s.nanoseconds.Load()).Seconds())
	fmt.Fprintf(w, "%s_count{%s} %d\n", durationName, labels, upTo)
}

// writeRuntime writes what tells most about the process, under the names that dashboards for Go know.
func writeRuntime(w io.Writer) {
	samples := []metrics.Sample{
		{Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
	}
	metrics.Read(samples)
	single(w, "go_goroutines", "gauge", "Goroutines that exist.", int64(samples[0].Value.Uint64()))
	single(w, "go_memstats_heap_alloc_bytes", "gauge", "Bytes of objects in the heap.", int64(samples[1].Value.Uint64()))
	single(w, "go_memstats_sys_bytes", "gauge", "Bytes obtained from the system.", int64(samples[2].Value.Uint64()))
}

func single(w io.Writer, name, kind, help string, value int64) {
	head(w, name, kind, help)
	fmt.Fprintf(w, "%s %d\n", name, value)
}

func head(w io.Writer, name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}
