package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/myelin-chat/myelin/storage/storagetest"
)

// TestMetricsPage holds docs/metrics.md against what a server counts: each has a line, and no line is of what is not there.
func TestMetricsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("`((?:myelin|go)_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		documented[name[1]] = true
	}
	c := settingsIn(t, storagetest.Dir(t))
	c.Federation.Enabled = true
	_, counts := fetch(t, start(t, c).url+"/metrics")
	counted := map[string]bool{}
	for _, name := range regexp.MustCompile(`(?m)^# HELP (\S+) `).FindAllStringSubmatch(counts, -1) {
		counted[name[1]] = true
		if !documented[name[1]] {
			t.Errorf("%s is counted and not documented", name[1])
		}
	}
	for name := range documented {
		if !counted[name] {
			t.Errorf("%s is documented and not counted", name)
		}
	}
}
