package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/myelin-chat/myelin/matrix"
)

// Router is where an API lists its routes. Patterns are those of chi: a segment {name} is a parameter.
type Router struct{ routes []*route }

// Get routes GET, and HEAD, which is answered alike but for the body.
func (r *Router) Get(pattern string, h http.HandlerFunc) {
	r.add(http.MethodGet, pattern, h)
	r.add(http.MethodHead, pattern, h)
}

// Post routes POST.
func (r *Router) Post(pattern string, h http.HandlerFunc) { r.add(http.MethodPost, pattern, h) }

// Put routes PUT.
func (r *Router) Put(pattern string, h http.HandlerFunc) { r.add(http.MethodPut, pattern, h) }

// Delete routes DELETE.
func (r *Router) Delete(pattern string, h http.HandlerFunc) { r.add(http.MethodDelete, pattern, h) }

func (r *Router) add(method, pattern string, h http.HandlerFunc) {
	params := paramsOf(pattern)
	if len(params) > maxParams {
		panic(fmt.Sprintf("httpapi: %s has more than %d parameters", pattern, maxParams))
	}
	r.routes = append(r.routes, &route{
		method: method, pattern: pattern, params: params, handler: h,
		stats: &routeStats{method: method, route: pattern},
	})
}

// route is a method and a pattern, and what answers them.
type route struct {
	method, pattern string
	params          []string // names, in the order of the pattern
	handler         http.HandlerFunc
	stats           *routeStats
}

// paramsOf lists the names of a pattern's parameters.
func paramsOf(pattern string) []string {
	var names []string
	for {
		_, after, found := strings.Cut(pattern, "{")
		if !found {
			return names
		}
		name, rest, _ := strings.Cut(after, "}")
		names = append(names, name)
		pattern = rest
	}
}

// routeKey finds a route once chi has found its pattern.
type routeKey struct{ method, pattern string }

// mux finds routes. It uses chi's tree but not its ServeHTTP, which copies the request and makes maps to hand over
// what stands in the exchange here.
type mux struct {
	server *Server
	tree   *chi.Mux
	routes map[routeKey]*route
}

func newMux(s *Server, routes []*route) *mux {
	m := &mux{server: s, tree: chi.NewRouter(), routes: make(map[routeKey]*route, len(routes))}
	for _, r := range routes {
		key := routeKey{r.method, r.pattern}
		if m.routes[key] != nil {
			panic("httpapi: two routes for " + r.method + " " + r.pattern)
		}
		m.routes[key] = r
		m.tree.Method(r.method, r.pattern, r.handler)
	}
	return m
}

// ServeHTTP implements http.Handler.
func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.server.inFlight.Add(1)
	defer m.server.inFlight.Add(-1)
	x := &exchange{w: w, r: r, server: m.server, start: m.server.now(), maxBody: DefaultMaxBody}
	x.call.x = x
	m.find(x)
	x.run()
}

// searches are the memory of chi's search.
var searches = sync.Pool{New: func() any { return chi.NewRouteContext() }}

// find sets the route of x, and its parameters.
func (m *mux) find(x *exchange) {
	search := searches.Get().(*chi.Context)
	defer searches.Put(search)
	search.Reset()
	path := x.r.URL.EscapedPath()
	pattern := m.tree.Find(search, x.r.Method, path)
	if x.route = m.routes[routeKey{x.r.Method, pattern}]; x.route != nil {
		copy(x.params[:], search.URLParams.Values)
		return
	}
	x.route = &m.server.unknown
	if x.r.Method == http.MethodOptions {
		return
	}
	if allowed := m.allowed(path); len(allowed) > 0 {
		x.route = &m.server.wrongMethod
		x.w.Header()["Allow"] = []string{strings.Join(allowed, ", ")}
	}
}

// allowed lists the methods that a path has.
func (m *mux) allowed(path string) []string {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if m.tree.Match(chi.NewRouteContext(), method, path) {
			methods = append(methods, method)
		}
	}
	if methods != nil {
		methods = append(methods, http.MethodOptions)
	}
	return methods
}

// unrecognized makes the route that answers where there is none. Its name stands in metrics and logs, in place of paths
// that anybody may invent; so no method stands there either.
// https://spec.matrix.org/v1.19/client-server-api/#common-error-codes
func unrecognized(name string, status int) route {
	return route{
		pattern: name,
		stats:   &routeStats{route: name},
		handler: func(w http.ResponseWriter, _ *http.Request) {
			text := "no such endpoint"
			if status == http.StatusMethodNotAllowed {
				text = "the endpoint does not have this method"
			}
			exchangeOf(w).refuse(matrix.Errorf(matrix.Unrecognized, "%s", text).WithStatus(status))
		},
	}
}
