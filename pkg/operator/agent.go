package operator

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// Info prints the agent's statistics, by section.
func Info(ctx context.Context, c *client.Client, out io.Writer) error {
	self, err := c.AgentSelf(ctx)
	if err != nil {
		return queryFailed(err)
	}
	stats := self["Stats"]
	if stats == nil {
		return refused("Error querying Consul agent: its answer has no Stats")
	}
	for _, section := range sortedKeys(stats) {
		fmt.Fprintf(out, "%s:\n", section)
		values, _ := stats[section].(map[string]any)
		for _, key := range sortedKeys(values) {
			fmt.Fprintf(out, "\t%s = %v\n", key, values[key])
		}
	}
	return nil
}

// Reload makes the agent read its configuration again.
func Reload(ctx context.Context, c *client.Client, out io.Writer) error {
	if err := c.Reload(ctx); err != nil {
		return failed(err, "Error reloading")
	}
	fmt.Fprintln(out, "Configuration reload triggered")
	return nil
}

// MaintChange are the options of `maint`; with neither Enable nor Disable it lists.
type MaintChange struct {
	Enable, Disable bool
	Reason          string
	Service         string // its id; "" is the node
}

// Maint puts the node or a service into maintenance mode, ends that, or lists what is in
// maintenance mode.
func Maint(ctx context.Context, c *client.Client, out io.Writer, ch MaintChange) error {
	switch {
	case ch.Enable && ch.Disable:
		return refused("Only one of -enable or -disable may be provided")
	case !ch.Enable && ch.Reason != "":
		return refused("Reason may only be provided with -enable")
	case !ch.Enable && !ch.Disable && ch.Service != "":
		return refused("Service requires either -enable or -disable")
	case !ch.Enable && !ch.Disable:
		return listMaintenance(ctx, c, out)
	}
	what, whom, tried, change := "Node", "", "node maintenance", c.NodeMaintenance
	if ch.Service != "" {
		what, whom, tried = "Service", fmt.Sprintf(" for %q", ch.Service), "service maintenance"
		change = func(ctx context.Context, on bool, reason string) error {
			return c.ServiceMaintenance(ctx, ch.Service, on, reason)
		}
	}
	state, trying := "disabled", "disabling"
	if ch.Enable {
		state, trying = "enabled", "enabling"
	}
	if err := change(ctx, ch.Enable, ch.Reason); err != nil {
		return failed(err, "Error %s %s", trying, tried)
	}
	fmt.Fprintf(out, "%s maintenance is now %s%s\n", what, state, whom)
	return nil
}

func listMaintenance(ctx context.Context, c *client.Client, out io.Writer) error {
	self, err := c.AgentSelf(ctx)
	if err != nil {
		return queryFailed(err)
	}
	checks, err := c.AgentChecks(ctx, nil)
	if err != nil {
		return failed(err, "Error getting checks")
	}
	for _, id := range sortedKeys(checks) {
		if id == api.NodeMaintenanceID {
			fmt.Fprintf(out, "Node:\n  Name:   %v\n  Reason: %s\n\n", self["Config"]["NodeName"], checks[id].Notes)
		} else if strings.HasPrefix(id, api.ServiceMaintenancePrefix) {
			fmt.Fprintf(out, "Service:\n  ID:     %s\n  Reason: %s\n\n", checks[id].ServiceID, checks[id].Notes)
		}
	}
	return nil
}

// keySize is the size of a gossip key in bytes.
const keySize = 32

// Keygen prints a new key for gossip encryption.
func Keygen(out io.Writer) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // returns no error: if it fails, the program ends
	fmt.Fprintln(out, base64.StdEncoding.EncodeToString(key))
}

// Build describes a binary.
type Build struct {
	Version  string // 1.2.3 or 1.2.3-rc1
	Revision string // of the source, "" where that is not known
	Date     string // RFC 3339
}

// Version prints what was built: "text", or "json" as drivers read it.
func Version(out io.Writer, b Build, format string) error {
	switch format {
	case "text":
		fmt.Fprintf(out, "Muster v%s\n", strings.TrimPrefix(b.Version, "v"))
		if b.Revision != "" {
			fmt.Fprintf(out, "Revision %s\n", b.Revision)
		}
		fmt.Fprintf(out, "Build Date %s\n", b.Date)
		fmt.Fprintln(out, "Protocol 2 spoken by default, understands 2 to 3 (agent will automatically use protocol >2 when speaking to compatible agents)")
	case "json":
		var v struct {
			Version, Revision, Prerelease, BuildDate string
			RPC                                      struct{ Default, Min, Max int }
		}
		v.Version, v.Prerelease = splitVersion(b.Version)
		v.Revision, v.BuildDate = b.Revision, b.Date
		v.RPC.Default, v.RPC.Min, v.RPC.Max = 2, 2, 3
		text, err := json.Marshal(v)
		if err != nil {
			return failed(err, "Error printing the version")
		}
		fmt.Fprintf(out, "%s\n", text)
	default:
		return refused("Unknown format %q: use text or json", format)
	}
	return nil
}

// splitVersion splits 1.2.3-rc1 into 1.2.3 and rc1. Drivers compare the first, so it has
// that form even for a build whose version is some other text.
func splitVersion(full string) (version, prerelease string) {
	full = strings.TrimPrefix(full, "v")
	version, prerelease, _ = strings.Cut(full, "-")
	if strings.Trim(version, "0123456789.") != "" || strings.Count(version, ".") != 2 {
		return "0.0.0", full
	}
	return version, prerelease
}
