package agent

import (
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/go-metrics"
	metricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	metricsInterval = 10 * time.Second // of one set of figures
	metricsRetain   = time.Minute
)

// telemetry collects what raft, serf and we count. The libraries count into one
// global place, so agents that share a process share their figures.
type telemetry struct {
	recent *metrics.InmemSink
	prom   http.Handler // nil unless switched on
}

// newTelemetry starts counting; names begin with prefix. A positive retention
// also keeps the figures for Prometheus.
func newTelemetry(prefix string, retention time.Duration) (*telemetry, error) {
	t := &telemetry{recent: metrics.NewInmemSink(metricsInterval, metricsRetain)}
	sinks := metrics.FanoutSink{t.recent}
	if retention > 0 {
		registry := prometheus.NewRegistry()
		sink, err := metricsprom.NewPrometheusSinkFrom(metricsprom.PrometheusOpts{Expiration: retention, Registerer: registry})
		if err != nil {
			return nil, fmt.Errorf("set up prometheus metrics: %w", err)
		}
		sinks = append(sinks, sink)
		t.prom = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	}
	conf := metrics.DefaultConfig(prefix)
	conf.EnableHostname = false
	conf.EnableRuntimeMetrics = false // it would start a goroutine that nobody owns
	if _, err := metrics.NewGlobal(conf, sinks); err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	return t, nil
}

// summary is the JSON form of /v1/agent/metrics: the last full interval.
func (t *telemetry) summary() (any, error) { return t.recent.DisplayMetrics(nil, nil) }
