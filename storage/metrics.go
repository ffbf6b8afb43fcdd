package storage

import "github.com/prometheus/client_golang/prometheus"

var (
	groupSize = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "myelin_storage_group_items",
		Help:    "Writes stored by one commit.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 11),
	})
	commitSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "myelin_storage_commit_seconds",
		Help:    "Time from the first statement of a group to its acknowledged commit.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
	})
	failedGroups = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "myelin_storage_failed_groups_total",
		Help: "Attempts to store a group that did not succeed.",
	})
)

// Collectors are the metrics of this package.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{groupSize, commitSeconds, failedGroups}
}
