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
	metricsInterval = 10 * time.Second // one set of metrics covers this time
	metricsRetain   = time.Minute
)

// telemetry collects the metrics of raft, serf and muster. The libraries use one global
// registry, so agents in one process share their metrics.
type telemetry struct {
	recent *metrics.InmemSink
	prom   http.Handler // nil unless switched on
}

// newTelemetry installs the global metrics; their names begin with prefix. A positive
// retention also keeps them for Prometheus.
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
	conf.EnableRuntimeMetrics = false // it would start a goroutine that never ends
	if _, err := metrics.NewGlobal(conf, sinks); err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	return t, nil
}

// summary returns the metrics of the last full interval, for /v1/agent/metrics.
func (t *telemetry) summary() (any, error) { return t.recent.DisplayMetrics(nil, nil) }
