package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:generate go test -run=^TestSpecPage$ -count=1 . -update

var update = flag.Bool("update", false, "write docs/spec.md, and bring docs/spec-operations.tsv up to date with the routes")

const specHead = `# What of the specification is there

Version 1.19. Generated from ` + "`docs/spec-operations.tsv` and `docs/spec-sections.tsv` by `go generate ./cmd/myelin`" + `.
*Yes*: all of it. *Partly*: the note says what is missing. *Where* is the place to begin to read. A test holds the
operations against the routes in the code: what is not *no* here is served, and what is served stands here.
`

// operation is one row of docs/spec-operations.tsv.
type operation struct{ api, group, method, path, status, note string }

// isRoute says whether this server answers the operation; others it asks of someone else.
func (o operation) isRoute() bool { return o.api == "CS" || o.api == "SS" }

func operations(t *testing.T) []operation {
	t.Helper()
	var all []operation
	for _, row := range tsv(t, "spec-operations.tsv", 6) {
		all = append(all, operation{row[0], row[1], row[2], row[3], row[4], row[5]})
	}
	return all
}

// tsv reads a table of docs without its heading.
func tsv(t *testing.T, name string, columns int) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for i, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
		row := strings.Split(line, "\t")
		if len(row) != columns {
			t.Fatalf("%s:%d: got %d columns, want %d", name, i+1, len(row), columns)
		}
		status := row[columns-2]
		if i > 0 && !slices.Contains([]string{"yes", "partly", "no"}, status) {
			t.Errorf("%s:%d: got status %q, want yes, partly or no", name, i+1, status)
		}
		if status == "partly" && row[columns-1] == "" {
			t.Errorf("%s:%d: partly, but no note says what is missing", name, i+1)
		}
		rows = append(rows, row)
	}
	return rows[1:]
}

// TestSpecPage holds docs/spec.md against its tables; with -update it writes the page.
func TestSpecPage(t *testing.T) {
	if *update {
		updateOperations(t)
	}
	page := specHead + sectionTables(sections(t)) + operationTables(operations(t), routes(t))
	path := filepath.Join(moduleRoot, "docs/spec.md")
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != page {
		t.Error("docs/spec.md is not what its tables say; run go generate ./cmd/myelin")
	}
}

// updateOperations says yes of operations that are newly served, which whoever wrote them then changes to partly where
// that is the truth, and no of those that are not served any more.
func updateOperations(t *testing.T) {
	t.Helper()
	served := routes(t)
	text := "api\tgroup\tmethod\tpath\tstatus\tnote\n"
	for _, op := range operations(t) {
		if there := served[routeKey(op.method, op.path)] != ""; op.isRoute() && there != (op.status != "no") {
			op.status = map[bool]string{true: "yes", false: "no"}[there]
		}
		text += strings.Join([]string{op.api, op.group, op.method, op.path, op.status, op.note}, "\t") + "\n"
	}
	if err := os.WriteFile(filepath.Join(moduleRoot, "docs/spec-operations.tsv"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sections reads docs/spec-sections.tsv. What is there at all is somewhere.
func sections(t *testing.T) [][]string {
	t.Helper()
	rows := tsv(t, "spec-sections.tsv", 6)
	for _, row := range rows {
		if (row[3] != "") != (row[4] != "no") {
			t.Errorf("docs/spec-sections.tsv: %s is there: %s, and where: %q", row[1], row[4], row[3])
		}
		for place := range strings.SplitSeq(row[3], ", ") {
			if _, err := os.Stat(filepath.Join(moduleRoot, place)); err != nil {
				t.Errorf("docs/spec-sections.tsv: %s: %v", row[1], err)
			}
		}
	}
	return rows
}

// placeLinks links to files and folders, given as "a/b.go, c".
func placeLinks(places string) string {
	if places == "" {
		return ""
	}
	var links []string
	for place := range strings.SplitSeq(places, ", ") {
		links = append(links, fmt.Sprintf("[%s](../%[1]s)", place))
	}
	return strings.Join(links, ", ")
}

func sectionTables(rows [][]string) string {
	text, of := "\n# Sections\n", ""
	for _, row := range rows {
		if row[0] != of {
			of = row[0]
			text += "\n## " + of + "\n\n| section | there | where | note |\n|---|---|---|---|\n"
		}
		text += fmt.Sprintf("| [%s](%s%s) | %s | %s | %s |\n", row[1], specRoot, row[2], row[4], placeLinks(row[3]), row[5])
	}
	return text
}

const specRoot = "https://spec.matrix.org/v1.19/"

var apiTitles = map[string][2]string{
	"CS": {"Client-server API", "client-server-api"},
	"SS": {"Server-server API", "server-server-api"},
	"AS": {"Application service API (requests of this server to application services)", "application-service-api"},
	"PG": {"Push gateway API (requests of this server to push gateways)", "push-gateway-api"},
}

func operationTables(all []operation, served map[string]string) string {
	text, api, group := "\n# Operations\n", "", ""
	for _, op := range all {
		if op.api != api {
			api = op.api
			text += "\n## " + apiTitles[api][0] + "\n\n" + totals(all, api) + "\n"
		}
		if op.group != group {
			group = op.group
			text += "\n### " + group + "\n\n| operation | there | where | note |\n|---|---|---|---|\n"
		}
		anchor := strings.ToLower(op.method) + strings.NewReplacer("/", "", "{", "", "}", "", ".", "").Replace(strings.ToLower(op.path))
		link := specRoot + apiTitles[api][1] + "/#" + anchor
		place := placeLinks(served[routeKey(op.method, op.path)])
		text += fmt.Sprintf("| [%s `%s`](%s) | %s | %s | %s |\n", op.method, op.path, link, op.status, place, op.note)
	}
	return text
}

func totals(all []operation, api string) string {
	count := map[string]int{}
	for _, op := range all {
		if op.api == api {
			count[op.status]++
		}
	}
	return fmt.Sprintf("%d yes, %d partly, %d no.", count["yes"], count["partly"], count["no"])
}

// TestSpecAgreesWithRoutes: an operation that is served is not "no", and one that is not served is.
func TestSpecAgreesWithRoutes(t *testing.T) {
	served := routes(t)
	for _, op := range operations(t) {
		if !op.isRoute() {
			continue
		}
		key := routeKey(op.method, op.path)
		if served[key] != "" && op.status == "no" {
			t.Errorf("%s %s is served, but docs/spec-operations.tsv says no", op.method, op.path)
		}
		if served[key] == "" && op.status != "no" {
			t.Errorf("%s %s is not served, but docs/spec-operations.tsv says %s", op.method, op.path, op.status)
		}
	}
}

// routes finds every `r.Method("/_matrix/...", ...)` in the packages that serve, whichever names the router has, and the
// file of the handler that it leads to.
func routes(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"clientapi", "syncapi", "federation", "federation/*", "mediaapi", "httpapi"} {
		folders, err := filepath.Glob(filepath.Join(moduleRoot, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			addRoutes(t, parsePackage(t, folder), found)
		}
	}
	return found
}

// parsePackage parses the files of a folder that are not tests, by their names in the module.
func parsePackage(t *testing.T, folder string) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		place, err := filepath.Rel(moduleRoot, name)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.ToSlash(place)] = file
	}
	return files
}

func addRoutes(t *testing.T, files map[string]*ast.File, found map[string]string) {
	t.Helper()
	methods := map[string]string{}
	for name, file := range files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && isOfAPI(f) {
				methods[f.Name.Name] = name
			}
		}
	}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if key, handler := routeOf(n); key != "" {
				if found[key] = methods[handler]; found[key] == "" {
					t.Errorf("%s: the handler is not found, %q is none", key, handler)
				}
			}
			return true
		})
	}
}

// isOfAPI says whether a function is a method of *API, as handlers are.
func isOfAPI(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return false
	}
	pointer, ok := f.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	of, ok := pointer.X.(*ast.Ident)
	return ok && of.Name == "API"
}

// routeOf says whether a node is a route, as "METHOD path", and what its handler is called: the last method that it names.
func routeOf(n ast.Node) (key, handler string) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) < 2 {
		return "", ""
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	literal, isText := call.Args[0].(*ast.BasicLit)
	if !ok || !isText || literal.Kind != token.STRING {
		return "", ""
	}
	path, _ := strconv.Unquote(literal.Value)
	if !strings.HasPrefix(path, "/_matrix/") && !strings.HasPrefix(path, "/.well-known/") {
		return "", ""
	}
	ast.Inspect(call.Args[len(call.Args)-1], func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			handler = s.Sel.Name
		}
		return true
	})
	return routeKey(selector.Sel.Name, path), handler
}

var pathParameter = regexp.MustCompile(`\{[^}]*\}`)

// routeKey is a method and a path in which parameters have no names.
func routeKey(method, path string) string {
	return strings.ToUpper(method) + " " + pathParameter.ReplaceAllString(path, "{}")
}
