package config_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/config"
)

//go:generate go test -run=^TestPage$ -count=1 . -update

var update = flag.Bool("update", false, "write docs/config.md")

const (
	pagePath = "../docs/config.md"
	pageHead = `# Settings

Generated from the comments in ` + "`config/config.go`" + ` by ` + "`go generate ./config`" + `.

Settings come from a YAML file named with ` + "`--config FILE`" + ` (or MYELIN_CONFIG), from the environment and from flags; a
flag goes before the environment, the environment before the file. Every key but the lists has all three forms:

| file | environment | flag |
|---|---|---|
| ` + "`federation: {enabled: false}`" + ` | ` + "`MYELIN_FEDERATION_ENABLED=false`" + ` | ` + "`--federation-enabled=false`" + ` |

Lists stand in the file only, except that ` + "`--listen ADDR`" + ` and MYELIN_LISTEN set one listener that serves everything.
Only ` + "`server_name`" + ` must be set. Unknown keys are errors. ` + "`myelin config`" + ` prints the settings in force and reports all
mistakes at once. Give secrets in the file or the environment: flags are visible to every user of the machine.
`
)

// TestPage holds docs/config.md against the source; with -update it writes the page.
func TestPage(t *testing.T) {
	page := page()
	if *update {
		if err := os.WriteFile(pagePath, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != page {
		t.Errorf("%s is not what the source says; run go generate ./config", pagePath)
	}
}

// page lists the keys outside of sections first, then section after section.
func page() string {
	order, rows := []string{""}, map[string]string{}
	c := config.Default()
	for f := range c.Fields() {
		section := sectionOf(f.Key)
		if rows[section] == "" && section != "" {
			order = append(order, section)
		}
		rows[section] += row(f)
		if f.Key == "listen" {
			rows[section] += listenerRows()
		}
	}
	text := pageHead
	for _, section := range order {
		text += heading(section) + rows[section]
	}
	return text
}

// sectionOf is the section under which a key is listed: rate limits stand together, and so do the keys outside of
// sections.
func sectionOf(key string) string {
	section, _, inside := strings.Cut(key, ".")
	if !inside {
		return ""
	}
	return section
}

func heading(section string) string {
	title := "General"
	if section != "" {
		title = "`" + section + "`"
	}
	text := "\n## " + title + "\n\n"
	if doc := config.SectionDoc(section); doc != "" {
		text += doc + "\n\n"
	}
	return text + "| key | default | meaning |\n|---|---|---|\n"
}

func row(f config.Field) string {
	value := f.String()
	if value != "" {
		value = "`" + value + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", f.Key, value, f.Doc)
}

func listenerRows() string {
	rows := ""
	for _, f := range config.ListenerFields() {
		rows += row(f)
	}
	return rows
}
