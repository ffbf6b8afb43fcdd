package inbox

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/myelin-chat/myelin/roomserver"
)

var events = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "myelin_federation_events_total",
	Help: "Events of other servers that were given to their rooms, by what became of them. Those that are tried again are counted each time.",
}, []string{"outcome"})

// counted are the counters, by the outcomes of roomserver.
var counted = map[roomserver.Outcome]prometheus.Counter{
	roomserver.Accepted:   events.WithLabelValues("accepted"),
	roomserver.SoftFailed: events.WithLabelValues("soft_failed"),
	roomserver.Rejected:   events.WithLabelValues("rejected"),
	roomserver.Known:      events.WithLabelValues("known"),
	roomserver.Missing:    events.WithLabelValues("missing"),
	roomserver.Refused:    events.WithLabelValues("refused"),
	roomserver.Busy:       events.WithLabelValues("busy"),
	roomserver.Failed:     events.WithLabelValues("failed"),
}

// Collectors are the metrics of this package.
func Collectors() []prometheus.Collector { return []prometheus.Collector{events} }

// count counts what became of events.
func count(results []roomserver.Result) {
	for _, r := range results {
		if c := counted[r.Outcome]; c != nil {
			c.Inc()
		}
	}
}
