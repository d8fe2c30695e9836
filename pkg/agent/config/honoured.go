package config

import (
	"fmt"
	"slices"
	"strings"
)

// notBuilt is the error for a key that protects something in Consul and would have no
// effect here. If the agent started, its owner would believe in a protection that is not
// there.
func notBuilt(key, why string) error {
	return fmt.Errorf("%s is not built yet in this version: %s", spellings(key), why)
}

// spellings names a key and the deprecated key that the file may have used for it.
func spellings(key string) string {
	for _, mv := range moves() {
		if mv.to == key {
			return fmt.Sprintf("%s (or %s)", key, mv.from)
		}
	}
	if key == "acl.enabled" {
		return key + " (or acl_datacenter)" // see migrateKeys
	}
	return key
}

// validateHonoured refuses every security setting that this version does not act on. A
// setting that is harmless without effect only causes a warning.
func (c *Config) validateHonoured() error {
	https := c.TLS.HTTPS
	for _, r := range []struct {
		key string
		set bool
		why string
	}{
		{"acl.enabled", c.ACL.Enabled, "whoever reaches the API could use all of it: take the key out, and keep the API to people you trust"},
		{"auto_encrypt.tls", c.AutoEncrypt.TLS, "this agent would verify no server: set tls.internal_rpc.ca_file, cert_file and key_file"},
		{"auto_encrypt.allow_tls", c.AutoEncrypt.AllowTLS, "clients would get no certificates: give them files"},
		{"auto_config.enabled", c.AutoConfig.Enabled, "this agent would lack what the servers were to send: put it into its files"},
		{"serf_lan_allowed_cidrs", len(c.SerfLANCIDRs) > 0, "gossip would be open to every network: take the key out, and set encrypt or filter the port"},
		{"limits.request_limits.mode", c.Limits.RequestLimits.Mode == "enforcing", "no rate would be enforced: use permissive or disabled"},
		{"ports.https", c.Ports.HTTPS > 0 && (https != TLSSettings{} || c.TLS.Defaults.CertFile != ""),
			"nothing would listen there: set it to -1, and let a proxy add TLS to HTTP"},
	} {
		if r.set {
			return notBuilt(r.key, r.why)
		}
	}
	for _, addr := range c.RetryJoin {
		if strings.Contains(addr, "provider=") {
			return fmt.Errorf("retry_join: %q: finding members at a cloud provider is not built yet in this version: name addresses", addr)
		}
	}
	return c.validateTLS()
}

// validateTLS checks that the TLS settings of the server port fit together: to verify,
// an agent needs a CA, and with a CA it needs a certificate, because agents verify each
// other in both directions.
func (c *Config) validateTLS() error {
	all, rpc := c.TLS.Defaults, c.TLS.InternalRPC
	ca := all.CAFile != "" || rpc.CAFile != ""
	for _, s := range []struct {
		section string
		TLSSettings
	}{{"tls.defaults", all}, {"tls.internal_rpc", rpc}} {
		if s.CAPath != "" {
			return notBuilt(s.section+".ca_path", "no certificate would be verified with it: put the CAs into one file, and set ca_file")
		}
		if (s.CertFile == "") != (s.KeyFile == "") {
			return fmt.Errorf("%s: cert_file and key_file must be set together", s.section)
		}
		for _, verify := range []struct {
			key string
			set bool
		}{
			{"verify_incoming", s.VerifyIncoming}, {"verify_outgoing", s.VerifyOutgoing}, {"verify_server_hostname", s.VerifyServerHostname},
		} {
			if verify.set && !ca {
				return fmt.Errorf("%s is set, but no CA to verify with: set tls.internal_rpc.ca_file, cert_file and key_file", spellings(s.section+"."+verify.key))
			}
		}
		if !slices.Contains(minVersions(), s.MinVersion) {
			return fmt.Errorf("%s.tls_min_version %q is invalid: use TLSv1_2 or TLSv1_3", s.section, s.MinVersion)
		}
	}
	if cert := all.CertFile != "" || rpc.CertFile != ""; ca != cert {
		return fmt.Errorf("%s: a CA file, a certificate file and a key file go together: set all three or none",
			spellings(map[bool]string{true: "tls.defaults.ca_file", false: "tls.defaults.cert_file"}[ca]))
	}
	return nil
}

// minVersions are the TLS versions that Consul accepts. The server port always uses
// TLS 1.3, which satisfies each of them.
func minVersions() []string {
	return []string{"", "TLS_AUTO", "TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3", "tls10", "tls11", "tls12", "tls13"}
}
