package roomserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A simFault is a fault that is put into the code, to see that the simulation finds it. It is never in the code
// itself: the test builds a binary from changed copies of some files, in which a fault sleeps until its name is
// in MYELIN_SIM_FAULT.
type simFault struct {
	name  string
	edits []simEdit
}

// A simEdit is a change of a file. In the new text, FAULT stands for whether the fault is awake.
type simEdit struct {
	file     string // from the root of the module
	old, new string // old stands in the file once
}

var simFaultTable = []simFault{
	{"accept a rejected event", []simEdit{{"roomserver/owner/arrive.go",
		"\tif why != nil {\n\t\tin.kind, in.order = rooms.Rejected",
		"\tif why != nil && !FAULT {\n\t\tin.kind, in.order = rooms.Rejected"}}},
	{"skip the power check", forgive},
	{"ignore bans on join", nil}, // the same places
	{"wrong tie-break", []simEdit{
		{"event/stateres/v2.go",
			"\treturn cmp.Compare(a.ts, b.ts)\n",
			"\treturn flip(FAULT) * cmp.Compare(a.ts, b.ts)\n"},
		{"event/stateres/v1.go",
			"return cmp.Or(cmp.Compare(a.ev.Depth, b.ev.Depth),",
			"return cmp.Or(flip(FAULT)*cmp.Compare(a.ev.Depth, b.ev.Depth),"}}},
	{"lose an extremity", []simEdit{{"roomserver/owner/tip.go",
		"\tkept = append(kept, ev)\n",
		"\tif kept = append(kept, ev); FAULT && len(kept) > 1 {\n\t\tkept = kept[1:]\n\t}\n"}}},
	{"answer before the commit", []simEdit{{"roomserver/owner/owner.go",
		"\to.tip, o.last = &next, fl\n",
		"\to.tip, o.last = &next, fl\n\tif FAULT {\n\t\tclose(fl.done)\n\t}\n"},
		{"roomserver/owner/owner.go",
			"\t\tfl.first, fl.err = first, err\n\t\tclose(fl.done)\n",
			"\t\tif FAULT {\n\t\t\treturn\n\t\t}\n\t\tfl.first, fl.err = first, err\n\t\tclose(fl.done)\n"}}},
	{"forget to store the state before", []simEdit{{"roomserver/owner/state_before.go",
		"\tst.nodes = append(st.nodes, nodes...)\n\treturn merged, err",
		"\tif !FAULT {\n\t\tst.nodes = append(st.nodes, nodes...)\n\t}\n\treturn merged, err"}}},
	{"apply a soft-failed event to the state", []simEdit{{"roomserver/owner/store.go",
		"\tif in.kind == rooms.Live {\n\t\tif err := st.moveCurrent",
		"\tif in.kind == rooms.Live || FAULT && in.kind == rooms.SoftFailed {\n\t\tif FAULT && in.kind == rooms.SoftFailed {\n\t\t\tst.tip.state = now.with\n\t\t} else if err := st.moveCurrent"}}},
	{"take a soft-failed event for a good one", []simEdit{{"roomserver/owner/arrive.go",
		"\tif why != nil {\n\t\tin.kind = rooms.SoftFailed\n",
		"\tif why != nil && !FAULT {\n\t\tin.kind = rooms.SoftFailed\n"}}},
	{"drop a missing prev event", []simEdit{{"roomserver/owner/state_before.go",
		"\t\tif prev == nil || prev.StateUnknown {\n\t\t\treturn nil, fmt.Errorf(\"%w: prev event %s\"",
		"\t\tif (prev == nil || prev.StateUnknown) && FAULT && len(prevs) > 0 {\n\t\t\tcontinue\n\t\t}\n\t\tif prev == nil || prev.StateUnknown {\n\t\t\treturn nil, fmt.Errorf(\"%w: prev event %s\""}}},
	{"treat duplicates as new", []simEdit{{"roomserver/owner/arrive.go",
		"\tif had := in.stored; had != nil {\n",
		"\tif had := in.stored; had != nil && FAULT && had.Kind == rooms.Live {\n\t\tin.stored = nil\n\t} else if had != nil {\n"}}},
	{"keep what a partial room accepted without a second look", []simEdit{{"roomserver/owner/partial_check.go",
		"\t\tif err := st.checkAgain(ctx, ev); err != nil {\n",
		"\t\tif had := st.place(ev); FAULT {\n\t\t\tif err := st.advance(ctx, had, had.before); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n" +
			"\t\t} else if err := st.checkAgain(ctx, ev); err != nil {\n"}}},
	{"forget over a restart what is to be looked at again", []simEdit{{"roomserver/owner/store.go",
		"\t\tadded.Listed = st.enlist(ev.Num)\n",
		"\t\tif place := st.enlist(ev.Num); !FAULT {\n\t\t\tadded.Listed = place\n\t\t}\n"}}},
	{"fill a hole with the members before another event", []simEdit{{"roomserver/receive/partial_fetch.go",
		"\t\tf.at, f.follow = prev[0], true\n",
		"\t\tf.at, f.follow = prev[0], !FAULT\n"}}},
	{"go on with a room that was given up", []simEdit{{"roomserver/owner/partial.go",
		"\tif st.tip.gone {\n",
		"\tif st.tip.gone && !FAULT {\n"}}},
}

// forgive are the edits for rules that have no effect; simFaultCode knows which.
var forgive = []simEdit{
	{"roomserver/owner/auth.go",
		"return auth.CheckWith(ev, st.createdBy(authState{selected: in.auth, create: st.tip.create}), st.tip.levels)",
		"return simForgive(ev, st.createdBy(authState{selected: in.auth, create: st.tip.create}), st.tip.levels)"},
	{"roomserver/owner/auth.go",
		"return auth.CheckWith(ev, st.createdBy(known), st.tip.levels), nil",
		"return simForgive(ev, st.createdBy(known), st.tip.levels), nil"},
	{"roomserver/owner/store.go",
		"return auth.CheckWith(ev, known.state, st.tip.levels)",
		"return simForgive(ev, known.state, st.tip.levels)"},
}

// simFaultCode is added to the packages that have faults.
var simFaultCode = map[string]string{
	"roomserver/owner": `package owner

import (
	"errors"
	"os"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
)

var simFaultName = os.Getenv("MYELIN_SIM_FAULT")

var forgiven = map[string]string{"skip the power check": "7", "ignore bans on join": "4.3.3"}[simFaultName]

func simForgive(ev *event.Event, state auth.State, levels *auth.PowerLevels) error {
	err := auth.CheckWith(ev, state, levels)
	var why *auth.Rejection
	if errors.As(err, &why) && why.Rule == forgiven {
		return nil
	}
	return err
}
`,
	"roomserver/receive": `package receive

import "os"

var simFaultName = os.Getenv("MYELIN_SIM_FAULT")
`,
	"event/stateres": `package stateres

import "os"

var simFaultName = os.Getenv("MYELIN_SIM_FAULT")

func flip(is bool) int {
	if is {
		return -1
	}
	return 1
}
`,
}

// faultSeeds bounds the seeds in which each fault must be found.
const faultSeeds = 200

// TestSimulationFindsFaults builds the tests with faults in the code, and expects the simulation to find each.
func TestSimulationFindsFaults(t *testing.T) {
	if os.Getenv("MYELIN_SIM_SEEDS") == "" {
		t.Skip("it builds a binary of its own: set MYELIN_SIM_SEEDS")
	}
	binary := buildFaulty(t)
	if out, err := runFaulty(binary, "", 10); err != nil {
		t.Fatalf("without any fault: %v\n%s", err, out)
	}
	for _, fault := range simFaultTable {
		t.Run(fault.name, func(t *testing.T) {
			out, err := runFaulty(binary, fault.name, faultSeeds)
			if err == nil {
				t.Fatalf("not found in %d seeds", faultSeeds)
			}
			found := false
			for line := range strings.Lines(string(out)) {
				if i := strings.Index(line, "seed "); i >= 0 && !found {
					found = true
					t.Log(line[i : len(line)-1])
				}
			}
			if !found {
				t.Errorf("the simulation fell over, and found nothing: %s", out[max(0, len(out)-2000):])
			}
		})
	}
}

func runFaulty(binary, fault string, seeds int) ([]byte, error) {
	cmd := exec.Command(binary, "-test.run=^TestSimulation$", fmt.Sprint("-sim.seeds=", seeds), "-sim.brief")
	cmd.Env = append(os.Environ(), "MYELIN_SIM_FAULT="+fault)
	return cmd.CombinedOutput()
}

// TestSimulationFaultsFit: what the faults change is still in the code.
func TestSimulationFaultsFit(t *testing.T) {
	faultyTexts(t, moduleRoot(t))
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal("the test runs where its source is")
	}
	return root
}

// faultyTexts are the files that have all faults asleep in them, by their path from the root.
func faultyTexts(t *testing.T, root string) map[string][]byte {
	t.Helper()
	texts := make(map[string][]byte)
	for _, fault := range simFaultTable {
		for _, edit := range fault.edits {
			if texts[edit.file] == nil {
				var err error
				if texts[edit.file], err = os.ReadFile(filepath.Join(root, edit.file)); err != nil {
					t.Fatal(err)
				}
			}
			texts[edit.file] = edit.apply(t, fault.name, texts[edit.file])
		}
	}
	for folder, text := range simFaultCode {
		texts[folder+"/sim_fault.go"] = []byte(text)
	}
	return texts
}

// buildFaulty builds the tests of this package with all faults asleep in them.
func buildFaulty(t *testing.T) string {
	t.Helper()
	root, dir := moduleRoot(t), t.TempDir()
	texts := faultyTexts(t, root)
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for file, text := range texts {
		copied := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, file)] = copied
	}
	text, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "faulty.test")
	out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("build with faults: %v\n%s", err, out)
	}
	return binary
}

// apply puts a fault beside what the code does, or beside the faults that are there already.
func (e simEdit) apply(t *testing.T, name string, text []byte) []byte {
	t.Helper()
	awake := fmt.Sprintf("(simFaultName == %q)", name)
	if n := bytes.Count(text, []byte(e.old)); n != 1 {
		t.Fatalf("%s: the text that %q changes is there %d times; the code has changed, so must the fault:\n%s", e.file, name, n, e.old)
	}
	return bytes.Replace(text, []byte(e.old), []byte(strings.ReplaceAll(e.new, "FAULT", awake)), 1)
}
