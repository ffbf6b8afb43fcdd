package intake

import "github.com/prometheus/client_golang/prometheus"

var (
	receivedPDUs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "myelin_federation_received_pdus_total",
		Help: "Events in transactions of other servers: staged for their rooms, or refused at once.",
	}, []string{"result"})
	receivedEDUs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "myelin_federation_received_edus_total",
		Help: "EDUs in transactions of other servers.",
	})

	stagedPDUs, refusedPDUs = receivedPDUs.WithLabelValues("staged"), receivedPDUs.WithLabelValues("refused")
)

// Collectors are the metrics of this package.
func Collectors() []prometheus.Collector { return []prometheus.Collector{receivedPDUs, receivedEDUs} }

// count counts a transaction that was taken in.
func (t *intake) count(in transaction) {
	staged := 0
	for _, r := range t.order {
		staged += len(r.events)
	}
	stagedPDUs.Add(float64(staged))
	refusedPDUs.Add(float64(max(0, len(in.PDUs)-staged)))
	receivedEDUs.Add(float64(len(in.EDUs)))
}
