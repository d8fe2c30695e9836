package check

import (
	"errors"
	"net/http"

	"github.com/muster-dev/muster/pkg/api"
)

// The types of checks, as the catalog shows them.
const (
	TypeScript    = "script"
	TypeHTTP      = "http"
	TypeTCP       = "tcp"
	TypeUDP       = "udp"
	TypeTTL       = "ttl"
	TypeAlias     = "alias"
	TypeGRPC      = "grpc"
	TypeDocker    = "docker"
	TypeH2Ping    = "h2ping"
	TypeOSService = "os_service"

	// TypeMaintenance is set by package local: such a check never runs.
	TypeMaintenance = "maintenance"
)

// Type returns the type of a definition, "" if it has none. If several are set, the first
// in this order counts.
func Type(def *api.CheckDefinition) string {
	switch {
	case def.GRPC != "":
		return TypeGRPC
	case def.HTTP != "":
		return TypeHTTP
	case def.TTL > 0:
		return TypeTTL
	case def.TCP != "":
		return TypeTCP
	case def.UDP != "":
		return TypeUDP
	case isAlias(def):
		return TypeAlias
	case isDocker(def):
		return TypeDocker
	case len(def.ScriptArgs) > 0:
		return TypeScript
	case def.H2PING != "":
		return TypeH2Ping
	case def.OSService != "":
		return TypeOSService
	}
	return ""
}

func isAlias(def *api.CheckDefinition) bool {
	return def.AliasNode != "" || def.AliasService != ""
}

func isDocker(def *api.CheckDefinition) bool {
	return def.DockerContainerID != "" && len(def.ScriptArgs) > 0
}

// polled says whether a definition has a type that runs at an interval.
func polled(def *api.CheckDefinition) bool {
	return def.GRPC != "" || def.HTTP != "" || def.TCP != "" || def.UDP != "" ||
		len(def.ScriptArgs) > 0 || def.H2PING != "" || def.OSService != ""
}

// Validate returns the first fault of a definition. The texts are part of the API;
// callers put "Invalid check: " before them.
func Validate(def *api.CheckDefinition) error {
	switch {
	case def.Interval > 0 && def.TTL > 0:
		return errors.New("Interval and TTL cannot both be specified") //nolint:staticcheck // API text
	case polled(def) && def.Interval <= 0:
		return errors.New("Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks") //nolint:staticcheck // API text
	case polled(def) && isAlias(def):
		return errors.New("Interval cannot be set for Alias checks") //nolint:staticcheck // API text
	case isAlias(def) && def.TTL > 0:
		return errors.New("TTL must be not be set for Alias checks") //nolint:staticcheck // API text
	case !polled(def) && !isAlias(def) && def.TTL <= 0:
		return errors.New("TTL must be > 0 for TTL checks") //nolint:staticcheck // API text
	case def.OutputMaxSize < 0:
		return errors.New("MaxOutputMaxSize must be positive") //nolint:staticcheck // API text
	case def.FailuresBeforeWarning > def.FailuresBeforeCritical:
		return errors.New("FailuresBeforeWarning can't be higher than FailuresBeforeCritical") //nolint:staticcheck // API text
	}
	return nil
}

// Supported returns an error for the types that this agent cannot run.
func Supported(def *api.CheckDefinition) error {
	switch t := Type(def); t {
	case TypeOSService:
		return api.Errorf(http.StatusInternalServerError, "not implemented")
	case TypeGRPC, TypeDocker, TypeH2Ping:
		return api.Errorf(http.StatusInternalServerError,
			"%s checks are not implemented: use script, http, tcp, udp, ttl or alias", t)
	}
	return nil
}

// IsScript says whether the check runs a program on this machine.
func IsScript(def *api.CheckDefinition) bool { return len(def.ScriptArgs) > 0 }

// ValidStatus says whether a check of an agent may have this status.
func ValidStatus(s string) bool {
	return s == api.HealthPassing || s == api.HealthWarning || s == api.HealthCritical
}
