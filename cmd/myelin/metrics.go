package main

import (
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/myelin-chat/myelin/storage"
)

// counts are what is counted of the parts that do not write Prometheus' format themselves.
type counts struct {
	registry      *prometheus.Registry
	groupItems    prometheus.Histogram
	commitSeconds prometheus.Histogram
	failedGroups  prometheus.Counter
}

func newCounts() *counts {
	c := &counts{
		registry: prometheus.NewRegistry(),
		groupItems: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "myelin_storage_group_items",
			Help:    "Writes that were committed as one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "myelin_storage_commit_seconds",
			Help:    "Time of one transaction, from its first row until it is on disk.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		failedGroups: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "myelin_storage_failed_groups_total",
			Help: "Attempts to store a group that did not succeed.",
		}),
	}
	c.registry.MustRegister(c.groupItems, c.commitSeconds, c.failedGroups)
	return c
}

// storage counts commits.
func (c *counts) storage() storage.Metrics {
	return storage.Metrics{
		Group: func(items int, took time.Duration) {
			c.groupItems.Observe(float64(items))
			c.commitSeconds.Observe(took.Seconds())
		},
		Failed: c.failedGroups.Inc,
	}
}

// write writes all counts in Prometheus' text format.
func (c *counts) write(w io.Writer) error {
	families, err := c.registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
	}
	return nil
}
