package main

import (
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/myelin-chat/myelin/roomserver/collect"
	"github.com/myelin-chat/myelin/storage"
)

// metrics makes what writes, in Prometheus' text format, the counts of the parts that do not write it themselves.
func (p *parts) metrics() func(io.Writer) error {
	// A registry of our own: the default one has whatever any imported module registers.
	registry := prometheus.NewRegistry()
	registry.MustRegister(storage.Collectors()...)
	registry.MustRegister(collect.Collectors()...)
	registry.MustRegister(p.others.collectors()...)
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "myelin_accounts_dropped_messages_total",
		Help: "Messages to devices that were dropped, as nobody uses the device and it has too many.",
	}, func() float64 { return float64(p.accounts.DroppedMessages()) }))
	return func(w io.Writer) error {
		families, err := registry.Gather()
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
}
