package collect

import "github.com/prometheus/client_golang/prometheus"

var collected = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "myelin_rooms_collected_nodes_total",
	Help: "Nodes of state trees that were deleted because no state needs them.",
})

// Collectors are the metrics of this package.
func Collectors() []prometheus.Collector { return []prometheus.Collector{collected} }
