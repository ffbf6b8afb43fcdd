package outbox

import "github.com/prometheus/client_golang/prometheus"

var (
	sentPDUs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "myelin_federation_sent_pdus_total",
		Help: "Events in transactions that other servers have taken, counted for each server.",
	})
	sentEDUs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "myelin_federation_sent_edus_total",
		Help: "EDUs in transactions that other servers have taken, counted for each server.",
	})
	transactions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "myelin_federation_sent_transactions_total",
		Help: "Transactions that were sent to other servers, by whether these have taken them.",
	}, []string{"result"})
	droppedItems = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "myelin_federation_dropped_items_total",
		Help: "Pieces that a server has refused again and again, and that are not sent to it any more.",
	})

	takenTransactions, failedTransactions = transactions.WithLabelValues("taken"), transactions.WithLabelValues("failed")
)

// Collectors are the metrics of this package.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{sentPDUs, sentEDUs, transactions, droppedItems}
}

// count counts a transaction that was sent.
func (t Transaction) count(err error) {
	if err != nil {
		failedTransactions.Inc()
		return
	}
	takenTransactions.Inc()
	sentPDUs.Add(float64(len(t.PDUs)))
	sentEDUs.Add(float64(t.EDUs))
}
