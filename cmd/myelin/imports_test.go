package main

import (
	"bufio"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	moduleRoot = "../.."
	module     = "github.com/myelin-chat/myelin"
)

// TestImports holds the code against the two tables of docs/architecture.md.
func TestImports(t *testing.T) {
	tables := importTables(t)
	ours, theirs := tables[0], tables[1]
	for file, imports := range sourceImports(t) {
		from := path.Dir(file)
		if !slices.ContainsFunc(ours, func(r tableRow) bool { return matchesAny(r.left, from) }) {
			t.Errorf("%s: package %s has no row in docs/architecture.md", file, from)
			continue
		}
		for _, imported := range imports {
			checkImport(t, file, imported, ours, theirs)
		}
	}
}

func checkImport(t *testing.T, file, imported string, ours, theirs []tableRow) {
	t.Helper()
	from := path.Dir(file)
	if to, ok := strings.CutPrefix(imported, module+"/"); ok {
		if !slices.ContainsFunc(ours, func(r tableRow) bool { return matchesAny(r.left, from) && matchesAny(r.right, to) }) {
			t.Errorf("%s: %s may not import %s", file, from, to)
		}
		return
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return // the standard library
	}
	permitted := func(r tableRow) bool {
		belongs := slices.ContainsFunc(r.left, func(m string) bool { return matches(m+"/*", imported) })
		return belongs && matchesAny(r.right, from)
	}
	if !slices.ContainsFunc(theirs, permitted) {
		t.Errorf("%s: %s may not import %s", file, from, imported)
	}
}

func TestImportTableIsRead(t *testing.T) {
	ours := importTables(t)[0]
	tests := []struct {
		from, to string
		want     bool
	}{
		{"matrix/canonical", "matrix", true},
		{"event/auth", "event", true},
		{"event", "event/auth", false},
		{"clientapi", "syncapi", false},
		{"roomserver/view", "storage/rooms", true},
		{"accounts", "storage/rooms", false},
		{"cmd/myelin", "bus", true},
		{"syncapi", "bus", false},
	}
	for _, test := range tests {
		got := slices.ContainsFunc(ours, func(r tableRow) bool { return matchesAny(r.left, test.from) && matchesAny(r.right, test.to) })
		if got != test.want {
			t.Errorf("%s imports %s: got %t, want %t", test.from, test.to, got, test.want)
		}
	}
}

// tableRow is one line of a table: patterns on either side.
type tableRow struct{ left, right []string }

// importTables returns the tables of the section on imports: of ours, and of what is not ours.
func importTables(t *testing.T) [2][]tableRow {
	t.Helper()
	page, err := os.Open(filepath.Join(moduleRoot, "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	var tables [2][]tableRow
	table := -1
	for lines := bufio.NewScanner(page); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "| package |") || strings.HasPrefix(line, "| module |") {
			table++
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.HasPrefix(cells[1], "---") || table < 0 || table > 1 {
			continue
		}
		tables[table] = append(tables[table], tableRow{left: quoted(cells[1]), right: quoted(cells[2])})
	}
	if len(tables[0]) == 0 || len(tables[1]) == 0 {
		t.Fatal("docs/architecture.md: the tables of imports are not there")
	}
	return tables
}

// quoted returns what stands between backquotes.
func quoted(cell string) []string {
	var found []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			found = append(found, part)
		}
	}
	return found
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

func matches(pattern, name string) bool {
	tree, ok := strings.CutSuffix(pattern, "*")
	return name == pattern || ok && strings.HasPrefix(name+"/", tree)
}

// sourceImports maps each file of this module that is not a test to what it imports.
func sourceImports(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(moduleRoot, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipped(name, entry)
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(moduleRoot, name)
		for _, spec := range file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			found[filepath.ToSlash(relative)] = append(found[filepath.ToSlash(relative)], imported)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// skipped says which folders hold no source of this module: hidden ones, test data, and modules of their own.
func skipped(name string, entry fs.DirEntry) error {
	if name == moduleRoot {
		return nil
	}
	if strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "node_modules" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}
