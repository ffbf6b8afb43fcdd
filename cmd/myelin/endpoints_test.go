package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// endpoint is a route in the code, with what the specification says of its request.
type endpoint struct {
	method, pattern string
	query           []string
	body            any // an example with all members of the specification; nil if there is none
}

func (e endpoint) String() string { return e.method + " " + e.pattern }

// params are the names in the pattern, in lower case.
func (e endpoint) params() []string {
	var names []string
	for _, p := range pathParameter.FindAllString(e.pattern, -1) {
		names = append(names, strings.ToLower(strings.Trim(p, "{}")))
	}
	return names
}

// endpoints are all routes that clients call, in the order of the code. Those below r0 have the same handlers as v3.
func endpoints(t *testing.T) []endpoint {
	t.Helper()
	requests := requestsOfSpec(t)
	var all []endpoint
	for _, folder := range []string{"clientapi", "syncapi"} {
		files, err := filepath.Glob(filepath.Join(moduleRoot, folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, e := range routesIn(t, name) {
				key := routeKey(e.method, e.pattern)
				if !slices.ContainsFunc(all, func(other endpoint) bool { return routeKey(other.method, other.pattern) == key }) {
					e.query, e.body = requests[key].Query, requests[key].Body
					all = append(all, e)
				}
			}
		}
	}
	if len(all) < 60 {
		t.Fatalf("found %d endpoints only: the routes are written in another way than this test reads", len(all))
	}
	return all
}

// routesIn finds every `r.Method("/...", ...)` of a file.
func routesIn(t *testing.T, name string) []endpoint {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []endpoint
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		literal, isText := call.Args[0].(*ast.BasicLit)
		if !ok || !isText || literal.Kind != token.STRING {
			return true
		}
		method := strings.ToUpper(selector.Sel.Name)
		path, _ := strconv.Unquote(literal.Value)
		if slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, method) && strings.HasPrefix(path, "/") && !strings.Contains(path, "/r0/") {
			found = append(found, endpoint{method: method, pattern: path})
		}
		return true
	})
	return found
}

type specRequest struct {
	Method, Path string
	Query        []string
	Body         any
}

// requestsOfSpec reads an example request for each operation of the client-server API, made from its OpenAPI files.
// https://spec.matrix.org/v1.19/client-server-api/
func requestsOfSpec(t *testing.T) map[string]specRequest {
	t.Helper()
	var rows []specRequest
	readJSON(t, "requests.json", &rows)
	byRoute := map[string]specRequest{}
	for _, row := range rows {
		byRoute[routeKey(row.Method, row.Path)] = row
	}
	return byRoute
}

// exampleContent is the content of an event with all members of the specification.
type exampleContent struct {
	Type    string
	State   bool
	Content any
}

func contentsOfSpec(t *testing.T) []exampleContent {
	t.Helper()
	var rows []exampleContent
	readJSON(t, "contents.json", &rows)
	return rows
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
