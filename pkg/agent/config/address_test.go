package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestPickAdvertise(t *testing.T) {
	for name, c := range map[string]struct {
		local []string
		v6    bool
		want  string
		err   string
	}{
		"one private":  {[]string{"127.0.0.1", "8.8.8.8", "10.0.0.5", "fe80::1"}, false, "10.0.0.5", ""},
		"carrier":      {[]string{"100.64.0.1"}, false, "100.64.0.1", ""},
		"several":      {[]string{"10.0.0.5", "192.168.0.1"}, false, "", "Multiple private IPv4 addresses found. Please configure one with 'bind' and/or 'advertise'."},
		"none":         {[]string{"127.0.0.1", "8.8.8.8"}, false, "", "No private IPv4 address found."},
		"ipv6":         {[]string{"10.0.0.5", "fe80::1", "fd00::1", "2001:db8::1"}, true, "2001:db8::1", ""},
		"several ipv6": {[]string{"2001:db8::1", "2001:db8::2"}, true, "", "Multiple public IPv6 addresses found."},
	} {
		t.Run(name, func(t *testing.T) {
			var local []netip.Addr
			for _, s := range c.local {
				local = append(local, netip.MustParseAddr(s))
			}
			got, err := pickAdvertise(local, c.v6)
			if c.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || got.String() != c.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		flags map[string]any
		get   func(*Config) []string
		want  string
	}{
		"several clients": {map[string]any{"client_addr": "127.0.0.1 ::1"}, http, "127.0.0.1:8500 [::1]:8500"},
		"any client":      {map[string]any{"client_addr": "0.0.0.0"}, http, "0.0.0.0:8500"},
		"a template":      {map[string]any{"client_addr": `{{ "127.0.0.1 127.0.0.9" }}`}, http, "127.0.0.1:8500 127.0.0.9:8500"},
		"off":             {map[string]any{"ports.http": -1}, http, ""},
		"zero is off":     {map[string]any{"ports.dns": 0}, func(c *Config) []string { return c.Listen.DNS }, ""},
		"a socket":        {map[string]any{"addresses.http": "unix:///run/m.sock 127.0.0.1"}, http, "unix:///run/m.sock 127.0.0.1:8500"},
		"its own address": {map[string]any{"addresses.dns": "127.0.0.3", "ports.dns": 53}, func(c *Config) []string { return c.Listen.DNS }, "127.0.0.3:53"},
		"bind template":   {map[string]any{"bind_addr": `{{ "127.0.0.4" }}`}, advertised, "127.0.0.4"},
		"bind brackets":   {map[string]any{"bind_addr": "[::1]"}, advertised, "::1"},
		"advertise":       {map[string]any{"advertise_addr": "10.1.1.1"}, advertised, "10.1.1.1"},
		"advertise ipv4":  {map[string]any{"advertise_addr_ipv4": "10.1.1.2"}, advertised, "10.1.1.2"},
		"any, advertised": {map[string]any{"bind_addr": "0.0.0.0", "advertise_addr": "10.1.1.1"}, advertised, "10.1.1.1"},
		"serf bind": {map[string]any{"bind_addr": "127.0.0.1", "serf_lan": "127.0.0.7"},
			func(c *Config) []string { return []string{c.SerfBind.String()} }, "127.0.0.7"},
		"wan":       {map[string]any{"advertise_addr_wan": "1.2.3.4"}, func(c *Config) []string { return []string{c.TaggedAddresses["wan"]} }, "1.2.3.4"},
		"recursors": {map[string]any{"recursors": []string{"8.8.8.8", "127.0.0.1:54", "::1"}}, func(c *Config) []string { return c.Recursors }, "8.8.8.8:53 127.0.0.1:54 [::1]:53"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := mustLoad(t, Sources{Flags: local(c.flags)})
			if got := c.get(cfg); strings.Join(got, " ") != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

func http(c *Config) []string       { return c.Listen.HTTP }
func advertised(c *Config) []string { return []string{c.Advertise.String()} }

// TestLocalAddresses: the loopback interface exists everywhere.
func TestLocalAddresses(t *testing.T) {
	got, err := localAddresses()
	if err != nil || !slices.ContainsFunc(got, netip.Addr.IsLoopback) {
		t.Errorf("got %v, %v", got, err)
	}
}
