package auth

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
)

// beyond are rules of our tables that a version does not number, and why we
// have them all the same.
var beyond = map[string]string{
	"1":   "that a create event has an empty state key is left to the look-up of the state",
	"9.1": "before version 10 no rule says what becomes of a level that is none; there is nothing to compare",
	"9.2": "before version 10 no rule says what becomes of a level that is none; there is nothing to compare",
}

// TestEveryRule_CVE_2022_31152 holds testdata/rules.txt, which numbers the rules of every room
// version, against the tests: each rule has an event that passes and one that
// fails because of it, no number is left out, and no test is of a rule that its
// version does not have. TestRules, TestCheckAuthEvents and
// TestVouchingSignature check that the events do as the tables say.
func TestEveryRule_CVE_2022_31152(t *testing.T) {
	listed := readRules(t)
	for _, v := range event.Versions() {
		rejects, cases := provedIn(v)
		want := make(map[string]bool)
		for _, rule := range listed[string(v.ID)] {
			proof, name, _ := strings.Cut(rule.proof, " ")
			switch proof {
			case "rejects":
				want[name] = true
				if !rejects[name] {
					t.Errorf("version %s, rule %s: no test of rule %s", v.ID, rule.number, name)
				}
			case "allows":
				if !cases[name] {
					t.Errorf("version %s, rule %s: no case %q", v.ID, rule.number, name)
				}
			case "heads":
			default:
				t.Errorf("version %s, rule %s: %q is no proof", v.ID, rule.number, rule.proof)
			}
		}
		for name := range rejects {
			if !want[name] && beyond[name] == "" {
				t.Errorf("version %s: there is a test of rule %s, which it does not have", v.ID, name)
			}
		}
		checkNumbers(t, v, listed[string(v.ID)])
	}
}

// provedIn returns the rules that the tests have a rejection by, and the names
// of the cases, in a version.
func provedIn(v *event.Version) (rejects, cases map[string]bool) {
	rejects, cases = make(map[string]bool), make(map[string]bool)
	for _, tt := range ruleTests {
		if tt.versions == nil || tt.versions(v) {
			rejects[tt.rule], cases[tt.name] = true, true
		}
	}
	for _, tt := range authEventTests {
		if tt.rule != "" && (tt.versions == nil || tt.versions(v)) {
			rejects[tt.rule] = true
		}
	}
	return rejects, cases
}

// numberedRule is a line of testdata/rules.txt for one version.
type numberedRule struct{ number, proof string }

func readRules(t *testing.T) map[string][]numberedRule {
	text, err := os.ReadFile("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	rules := make(map[string][]numberedRule)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "\t")
		var first, last int
		if _, err := fmt.Sscanf(fields[0], "%d-%d", &first, &last); err != nil || len(fields) != 3 {
			t.Fatalf("%q: want versions, number, proof", line)
		}
		for n := first; n <= last; n++ {
			rules[strconv.Itoa(n)] = append(rules[strconv.Itoa(n)], numberedRule{fields[1], fields[2]})
		}
	}
	return rules
}

// checkNumbers checks that the rules of a version are numbered without a hole:
// each is the first below the one that heads it, or the next of its level.
func checkNumbers(t *testing.T, v *event.Version, rules []numberedRule) {
	t.Helper()
	last := []int{0}
	for _, rule := range rules {
		var n []int
		for part := range strings.SplitSeq(rule.number, ".") {
			i, err := strconv.Atoi(part)
			if err != nil {
				t.Fatalf("version %s: %q is no number", v.ID, rule.number)
			}
			n = append(n, i)
		}
		first := append(slices.Clone(last), 1)
		next := len(n) <= len(last) && slices.Equal(n[:len(n)-1], last[:len(n)-1]) && n[len(n)-1] == last[len(n)-1]+1
		if !next && !slices.Equal(n, first) {
			t.Errorf("version %s: rule %s follows %v", v.ID, rule.number, last)
		}
		last = n
	}
	if len(rules) < 70 {
		t.Errorf("version %s: got %d rules, want all", v.ID, len(rules))
	}
}
