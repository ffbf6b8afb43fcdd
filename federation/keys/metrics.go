package keys

import "github.com/prometheus/client_golang/prometheus"

var (
	fetches = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "myelin_federation_key_fetches_total",
		Help: "Requests to other servers for their signing keys, by whether they were answered.",
	}, []string{"result"})

	goodFetches, failedFetches = fetches.WithLabelValues("answered"), fetches.WithLabelValues("failed")
)

// Collectors are the metrics of this package.
func Collectors() []prometheus.Collector { return []prometheus.Collector{fetches} }
