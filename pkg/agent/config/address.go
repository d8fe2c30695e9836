package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-sockaddr/template"
)

// resolveAddresses evaluates templates and fills in the addresses that were not set:
// gossip binds to the address of raft, an agent advertises the address it binds to, and
// clients connect to client_addr.
func (c *Config) resolveAddresses() (err error) {
	if c.Bind, err = oneIP("bind_addr", c.BindAddr); err != nil {
		return err
	}
	if c.SerfBind, err = oneIP("serf_lan", c.SerfLAN); err != nil {
		return err
	}
	if _, err = oneIP("serf_wan", c.SerfWAN); err != nil {
		return err
	}
	if c.Advertise, err = c.advertise(); err != nil {
		return err
	}
	if err = c.tagAddresses(); err != nil {
		return err
	}
	for _, listener := range []struct {
		key, value string
		port       int
		out        *[]string
	}{
		{"addresses.http", c.Addresses.HTTP, c.Ports.HTTP, &c.Listen.HTTP},
		{"addresses.dns", c.Addresses.DNS, c.Ports.DNS, &c.Listen.DNS},
	} {
		key, value := listener.key, listener.value
		if value == "" {
			key, value = "client_addr", c.ClientAddr
		}
		if *listener.out, err = listenOn(key, value, listener.port); err != nil {
			return err
		}
	}
	for _, address := range c.Listen.DNS {
		if strings.HasPrefix(address, "unix://") {
			return fmt.Errorf("addresses.dns: DNS cannot listen on the socket %s: use an IP address", address)
		}
		if slices.Contains(c.Recursors, address) {
			return fmt.Errorf("recursors: %s is this agent itself: name another DNS server", address)
		}
	}
	return nil
}

// advertise returns the address at which others reach this agent.
func (c *Config) advertise() (netip.Addr, error) {
	value := c.AdvertiseAddr
	if value == "" && c.Bind.Is4() {
		value = c.AdvertiseAddrIPv4
	}
	if value == "" && c.Bind.Is6() {
		value = c.AdvertiseAddrIPv6
	}
	if value != "" {
		addr, err := oneIP("advertise_addr", value)
		if err == nil && addr.IsUnspecified() {
			err = errors.New("advertise_addr cannot be 0.0.0.0, :: or [::]: others could not reach it")
		}
		return addr, err
	}
	if c.SerfLAN != c.BindAddr && !c.SerfBind.IsUnspecified() && c.Bind.IsUnspecified() {
		return c.SerfBind, nil
	}
	if !c.Bind.IsUnspecified() {
		return c.Bind, nil
	}
	local, err := localAddresses()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up the addresses of this machine: %w: set 'advertise'", err)
	}
	return pickAdvertise(local, c.Bind.Is6())
}

// pickAdvertise returns the one address of this machine that others can be expected to
// reach: a private IPv4 address, or with v6 a global IPv6 address. None or several is an
// error.
func pickAdvertise(local []netip.Addr, v6 bool) (netip.Addr, error) {
	kind, fits := "private IPv4", func(a netip.Addr) bool { return a.Is4() && (a.IsPrivate() || isCarrierNAT(a)) }
	if v6 {
		kind, fits = "public IPv6", func(a netip.Addr) bool { return a.Is6() && a.IsGlobalUnicast() && !a.IsPrivate() }
	}
	var found []netip.Addr
	for _, a := range local {
		if fits(a) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return netip.Addr{}, fmt.Errorf("No %s address found. Please configure one with 'bind' and/or 'advertise'.", kind) //nolint:staticcheck // the reference's text
	}
	return netip.Addr{}, fmt.Errorf("Multiple %s addresses found. Please configure one with 'bind' and/or 'advertise'.", kind) //nolint:staticcheck // the reference's text
}

func isCarrierNAT(a netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a)
}

// localAddresses lists the addresses of the interfaces that are up and connected.
func localAddresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, prefix.Addr())
			}
		}
	}
	return out, nil
}

// tagAddresses adds the standard entries to tagged_addresses. An entry that the user set
// is kept.
func (c *Config) tagAddresses() error {
	wan := c.Advertise
	var err error
	if c.AdvertiseAddrWAN != "" {
		if wan, err = oneIP("advertise_addr_wan", c.AdvertiseAddrWAN); err != nil {
			return err
		}
	}
	tags := map[string]string{"lan": c.Advertise.String(), "wan": wan.String()}
	addFamily := func(name string, addr netip.Addr) {
		family := "_ipv4"
		if addr.Is6() {
			family = "_ipv6"
		}
		tags[name+family] = addr.String()
	}
	addFamily("lan", c.Advertise)
	addFamily("wan", wan)
	for key, value := range map[string]*string{
		"lan_ipv4": &c.AdvertiseAddrIPv4, "lan_ipv6": &c.AdvertiseAddrIPv6,
		"wan_ipv4": &c.AdvertiseWANIPv4, "wan_ipv6": &c.AdvertiseWANIPv6,
	} {
		if *value == "" {
			continue
		}
		addr, err := oneIP("advertise_addr for "+key, *value)
		if err != nil {
			return err
		}
		tags[key] = addr.String()
	}
	maps.Copy(tags, c.TaggedAddresses)
	c.TaggedAddresses = tags
	return nil
}

// expand evaluates value if it is a go-sockaddr template.
func expand(key, value string) (string, error) {
	if !strings.Contains(value, "{{") {
		return value, nil
	}
	out, err := template.Parse(value)
	if err != nil {
		return "", fmt.Errorf("%s: evaluate %q: %w", key, value, err)
	}
	return out, nil
}

func oneIP(key, value string) (netip.Addr, error) {
	text, err := expand(key, value)
	if err != nil {
		return netip.Addr{}, err
	}
	fields := strings.Fields(text)
	if len(fields) != 1 {
		return netip.Addr{}, fmt.Errorf("%s: one IP address is needed, %q gives %d", key, value, len(fields))
	}
	addr, err := netip.ParseAddr(strings.Trim(fields[0], "[]"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: %q is not an IP address", key, fields[0])
	}
	return addr.Unmap(), nil
}

// listenOn returns the addresses that a listener listens on; none if its port is off.
func listenOn(key, value string, port int) ([]string, error) {
	if port <= 0 {
		return nil, nil
	}
	text, err := expand(key, value)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return nil, fmt.Errorf("%s: %q gives no address", key, value)
	}
	var out []string
	for _, field := range fields {
		if strings.HasPrefix(field, "unix://") {
			out = append(out, field)
			continue
		}
		addr, err := oneIP(key, field)
		if err != nil {
			return nil, err
		}
		out = append(out, net.JoinHostPort(addr.String(), strconv.Itoa(port)))
	}
	return out, nil
}
