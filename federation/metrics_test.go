package federation_test

import (
	"encoding/json"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/federation/intake"
)

// total adds up the counters of one name with one value of their label; empty: without a label.
func total(t *testing.T, of []prometheus.Collector, name, label string) (sum float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(of...)
	families, err := registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// What comes is counted: events that are staged, and what became of them; those that are refused; EDUs.
func TestIntakeIsCounted(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	now := func() [5]float64 {
		return [5]float64{
			total(t, intake.Collectors(), "myelin_federation_received_pdus_total", "staged"),
			total(t, intake.Collectors(), "myelin_federation_received_pdus_total", "refused"),
			total(t, intake.Collectors(), "myelin_federation_received_edus_total", ""),
			total(t, inbox.Collectors(), "myelin_federation_events_total", "accepted"),
			total(t, inbox.Collectors(), "myelin_federation_events_total", "rejected"),
		}
	}
	before := now()
	good := them.message(room, "hello")
	forbidden := them.build(room, them.draft(room, "org.example.none", `{}`))
	key := ""
	levels := them.draft(room, event.TypePowerLevels, `{"users_default":100}`)
	levels.StateKey = &key
	mine := them.build(room, levels)
	them.sendRaw("1", []json.RawMessage{good.JSON, forbidden.JSON, mine.JSON, flip(t, them.message(room, "forged")), json.RawMessage(`{}`)},
		`{"edu_type":"m.none","content":{}}`)
	w.settle()
	got := now()
	for i := range got {
		got[i] -= before[i]
	}
	if want := [5]float64{3, 2, 1, 2, 1}; got != want {
		t.Errorf("staged, refused, EDUs, accepted, rejected: got %v, want %v", got, want)
	}
}
