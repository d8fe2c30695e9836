package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/agent/datadir"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/conf"
)

// normalize converts the settings to the form that the agent uses.
func (c *Config) normalize() error {
	if err := c.zeroIsDefault(); err != nil {
		return err
	}
	c.Datacenter = strings.ToLower(c.Datacenter)
	c.PrimaryDatacenter = strings.ToLower(c.PrimaryDatacenter)
	c.NodeID = strings.ToLower(c.NodeID)
	c.Domain = rooted(c.Domain)
	c.AltDomain = rooted(c.AltDomain)
	for _, port := range c.Ports.all() {
		if *port.value <= 0 {
			*port.value = -1
		}
	}
	if c.Encrypt != "" {
		key, err := base64.StdEncoding.DecodeString(c.Encrypt)
		if err != nil {
			return fmt.Errorf("encrypt: the gossip key is not base64: %w", err)
		}
		if !slices.Contains([]int{16, 24, 32}, len(key)) {
			return fmt.Errorf("encrypt: the gossip key has %d bytes: it must have 16, 24 or 32", len(key))
		}
		c.EncryptKey = key
	}
	if c.Dev && c.BootstrapExpect > 0 {
		return errors.New("'bootstrap_expect' cannot be used with -dev: a -dev agent is alone")
	}
	for i, recursor := range c.Recursors {
		address, err := expand("recursors", recursor)
		if err != nil {
			return err
		}
		if c.Recursors[i], err = recursorAddr(address); err != nil {
			return err
		}
	}
	return c.resolveAddresses()
}

// rooted returns a domain in lower case with its final dot.
func rooted(domain string) string {
	if domain == "" {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(domain, ".")) + "."
}

type namedPort struct {
	key   string
	value *int
}

func (p *Ports) all() []namedPort {
	return []namedPort{
		{"dns", &p.DNS}, {"http", &p.HTTP}, {"https", &p.HTTPS}, {"grpc", &p.GRPC}, {"grpc_tls", &p.GRPCTLS},
		{"serf_lan", &p.SerfLAN}, {"serf_wan", &p.SerfWAN}, {"server", &p.Server},
	}
}

// Validate returns the first fault that it finds.
func (c *Config) Validate() error {
	for _, check := range []func() error{
		c.validateIdentity, c.validateServer, c.validatePorts, c.validateNodeMeta, c.validateDNS, c.validateNumbers, c.validateExec, c.validateRest, c.validateHonoured,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateIdentity() error {
	if c.DataDir == "" && !c.Dev {
		return errors.New("data_dir cannot be empty")
	}
	if c.DataDir != "" {
		if info, err := os.Stat(c.DataDir); err == nil && !info.IsDir() {
			return fmt.Errorf("data_dir %q is not a directory", c.DataDir)
		}
	}
	if strings.TrimSpace(c.NodeName) == "" {
		return errors.New("node_name cannot be empty")
	}
	if c.NodeID != "" && !datadir.IsNodeID(c.NodeID) {
		return fmt.Errorf("node_id %q is not a UUID such as 11111111-2222-3333-4444-555555555555", c.NodeID)
	}
	if c.Datacenter == "" {
		return errors.New("datacenter cannot be empty")
	}
	for _, dc := range []string{c.Datacenter, c.PrimaryDatacenter} {
		if !regexp.MustCompile(`^[a-z0-9_-]+$`).MatchString(dc) {
			return fmt.Errorf("datacenter %q is invalid: only letters, digits, - and _ may stand in it", dc)
		}
	}
	return nil
}

func (c *Config) validateServer() error {
	switch {
	case c.BootstrapExpect < 0:
		return fmt.Errorf("bootstrap_expect cannot be %d: it must be 0 or more", c.BootstrapExpect)
	case c.BootstrapExpect > 0 && !c.Server:
		return errors.New("'bootstrap_expect > 0' requires 'server = true'")
	case c.BootstrapExpect > 0 && c.Bootstrap:
		return errors.New("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive")
	case c.Bootstrap && !c.Server:
		return errors.New("'bootstrap = true' requires 'server = true'")
	case c.RaftProtocol < 2 || c.RaftProtocol > 3:
		return fmt.Errorf("raft_protocol cannot be %d: it must be 3", c.RaftProtocol)
	case c.Performance.RaftMultiplier < 1 || c.Performance.RaftMultiplier > 10:
		return fmt.Errorf("performance.raft_multiplier cannot be %d. Must be between 1 and 10", c.Performance.RaftMultiplier)
	}
	return nil
}

func (c *Config) validatePorts() error {
	for _, port := range c.Ports.all() {
		if *port.value > 65535 {
			return fmt.Errorf("ports.%s cannot be %d: it must be at most 65535, or -1 for off", port.key, *port.value)
		}
	}
	if c.Ports.SerfLAN < 0 {
		return errors.New("ports.serf_lan cannot be off: an agent needs gossip")
	}
	if c.Server && c.Ports.Server < 0 {
		return errors.New("ports.server cannot be off on a server")
	}
	return nil
}

func (c *Config) validateNodeMeta() error {
	if n := len(c.NodeMeta); n > api.MaxMetaPairs {
		return fmt.Errorf("node_meta has %d pairs: it may have at most %d", n, api.MaxMetaPairs)
	}
	valid := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	for key, value := range c.NodeMeta {
		switch {
		case len(key) > api.MaxMetaKeyLen:
			return fmt.Errorf("node_meta key %q is longer than %d bytes", key, api.MaxMetaKeyLen)
		case !valid.MatchString(key):
			return fmt.Errorf("node_meta key %q is invalid: only letters, digits, - and _ may stand in it", key)
		case strings.HasPrefix(key, "consul-"):
			return fmt.Errorf("node_meta key %q is invalid: the prefix consul- is reserved", key)
		case len(value) > api.MaxMetaValueLen:
			return fmt.Errorf("node_meta value of %q is longer than %d bytes", key, api.MaxMetaValueLen)
		}
	}
	return nil
}

func (c *Config) validateDNS() error {
	if c.Domain == "" {
		return errors.New("domain cannot be empty")
	}
	if first, _, _ := strings.Cut(c.AltDomain, "."); c.AltDomain != "" &&
		slices.Contains([]string{"service", "connect", "node", "query", "addr", c.Datacenter}, first) {
		return fmt.Errorf("alt_domain cannot start with {service,connect,node,query,addr,%s}: names in it would be ambiguous", c.Datacenter)
	}
	if !slices.Contains([]string{"sequential", "random"}, c.DNS.RecursorStrategy) {
		return fmt.Errorf("dns_config.recursor_strategy %q is invalid: use sequential or random", c.DNS.RecursorStrategy)
	}
	return nil
}

// recursorAddr adds the DNS port to an address that has none.
func recursorAddr(s string) (string, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.String(), nil
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return "", fmt.Errorf("recursors: %q is not an IP address with or without a port", s)
	}
	return netip.AddrPortFrom(addr, 53).String(), nil
}

// validateNumbers checks every number against the "min" of its key.
func (c *Config) validateNumbers() error {
	for _, p := range conf.Walk(c) {
		i := slices.IndexFunc(p.Options, func(option string) bool { return strings.HasPrefix(option, "min=") })
		if i < 0 || slices.Contains(p.Options, "unused") {
			continue
		}
		least := strings.TrimPrefix(p.Options[i], "min=")
		var number int64
		var err error
		if _, ok := p.Value.Interface().(time.Duration); ok {
			var d time.Duration
			d, err = time.ParseDuration(least)
			number = int64(d)
		} else {
			number, err = strconv.ParseInt(least, 10, 64)
		}
		if err != nil {
			return fmt.Errorf("tag of %s: %w", p.Key, err)
		}
		if p.Value.Int() < number {
			return fmt.Errorf("%s cannot be %v. Must be greater than or equal to %s", p.Key, p.Value, least)
		}
	}
	return nil
}

func (c *Config) validateRest() error {
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "warning", "err", "error"}, strings.ToLower(c.LogLevel)) {
		return fmt.Errorf("log_level %q is invalid: use trace, debug, info, warn or error", c.LogLevel)
	}
	if c.GossipLAN.ProbeTimeout > c.GossipLAN.ProbeInterval {
		return fmt.Errorf("gossip_lan.probe_timeout %s is longer than probe_interval %s", c.GossipLAN.ProbeTimeout, c.GossipLAN.ProbeInterval)
	}
	if m := c.SessionTTLMultiplier; !(m >= 1 && m <= 10) {
		return fmt.Errorf("session_ttl_multiplier cannot be %v: it must be between 1 and 10", m)
	}
	for _, cidr := range c.HTTP.AllowWriteHTTPFrom {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return fmt.Errorf("http_config.allow_write_http_from: %q is not a network such as 127.0.0.0/8", cidr)
		}
	}
	_, err := c.UnixSockets.FileMode()
	return err
}

func parseMode(s string) (os.FileMode, error) {
	if s == "" {
		return 0, nil
	}
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("unix_sockets.mode %q is not an octal file mode such as 0700", s)
	}
	return os.FileMode(mode), nil
}

// warnings are about settings that are allowed but probably mistakes.
func (c *Config) warnings() []string {
	out := slices.Clone(c.notes)
	if c.Bootstrap && !c.Dev {
		out = append(out, "bootstrap = true: do not enable unless necessary")
	}
	if n := c.BootstrapExpect; n > 0 && n%2 == 0 {
		out = append(out, fmt.Sprintf("bootstrap_expect = %d: an even number of servers tolerates no more failures than %d", n, n-1))
	}
	if c.Ports.HTTPS > 0 {
		out = append(out, fmt.Sprintf("ports.https = %d: HTTPS is not built yet: nothing listens on that port", c.Ports.HTTPS))
	}
	if c.PrimaryDatacenter != c.Datacenter {
		out = append(out, fmt.Sprintf("primary_datacenter = %s: datacenters are not joined yet: it is shown, and has no other effect", c.PrimaryDatacenter))
	}
	if c.ReconnectTimeout < 8*time.Hour {
		out = append(out, fmt.Sprintf("reconnect_timeout = %s: below 8h, failed members are forgotten early", c.ReconnectTimeout))
	}
	if !regexp.MustCompile(`^[A-Za-z0-9-]{1,63}$`).MatchString(c.NodeName) {
		out = append(out, fmt.Sprintf("node_name %q is not DNS-safe: it cannot be looked up by every resolver", c.NodeName))
	}
	return out
}
