package agent

import (
	"net"
	"reflect"
	"slices"
	"testing"

	"github.com/muster-dev/muster/pkg/agent/config"
	"github.com/muster-dev/muster/pkg/agent/gossip"
	"github.com/muster-dev/muster/pkg/agent/mux"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

// Defaults stand in package config alone, so the parts get every number filled: none of
// them may take a zero for a default of its own.
func TestPartsGetFilledConfigs(t *testing.T) {
	zeroMeans := map[string]string{
		"gossip.Expect":              "not set",
		"server.Expect":              "not set",
		"server.Autopilot.MinQuorum": "no least number of voters",
		"dns.NodeTTL":                "answers are not to be cached",
		"dns.ARecordLimit":           "no limit",
		"dns.SOA.MinTTL":             "as it stands in the record",
		"api.DiscoveryMaxStale":      "off",
	}
	cfg, _, err := config.Load(config.Sources{Flags: map[string]any{"node_name": "n1", "data_dir": t.TempDir(), "server": true, "bind_addr": "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	identity, err := mux.LoadIdentity(mux.Files{}, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	a := New(cfg, Options{Logger: logx.Discard()})
	a.pool = gossip.New(a.gossipConfig())
	a.telemetry, err = newTelemetry("consul", 0)
	if err != nil {
		t.Fatal(err)
	}
	apiConf, err := a.apiConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	var zero []string
	for name, part := range map[string]any{
		"port": a.portConfig(ln, identity), "gossip": a.gossipConfig(), "local": a.localConfig(nil),
		"server": a.serverConfig(mux.New(a.portConfig(ln, identity)), mux.NewDialer(identity, dialTimeout), nil),
		"dns":    a.dnsConfig(cfg), "api": apiConf,
	} {
		zero = append(zero, zeroNumbers(name, reflect.ValueOf(part))...)
	}
	for _, field := range zero {
		if zeroMeans[field] == "" {
			t.Errorf("%s is 0: its default is missing in package config", field)
		}
	}
	for field := range zeroMeans {
		if !slices.Contains(zero, field) {
			t.Errorf("%s is not 0, or is gone: take it from the list", field)
		}
	}
}

// zeroNumbers are the numbers of a Config, and of the structs in it, that are zero.
func zeroNumbers(path string, v reflect.Value) (zero []string) {
	for i := range v.NumField() {
		f, name := v.Field(i), path+"."+v.Type().Field(i).Name
		switch f.Kind() {
		case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64, reflect.Float64:
			if f.IsZero() {
				zero = append(zero, name)
			}
		case reflect.Struct:
			if f.Type().PkgPath() != reflect.TypeFor[api.Node]().PkgPath() { // those are data
				zero = append(zero, zeroNumbers(name, f)...)
			}
		}
	}
	return zero
}
