package httpapi

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// mode is the consistency of a read.
type mode uint8

const (
	byLeader   mode = iota // the leader answers
	stale                  // any server answers
	consistent             // the leader answers after a majority confirmed it
)

func (m mode) String() string { return [...]string{"leader", "stale", "consistent"}[m] }

// params are the parameters that many routes share.
type params struct {
	values   url.Values
	mode     mode
	index    uint64    // answer when the result is newer than this
	until    time.Time // or at this time
	hash     string    // answer when the content hash is another
	nodeMeta map[string]string
	deadline time.Time // of the search for the leader
}

// changesSince is the parameter that asks for the changes after an index.
const changesSince = "changes-since"

// parse reads the shared parameters. Which of them a route knows depends on
// where it runs; the others are ignored, as the reference does.
func (rq *request) parse() error {
	if err := rq.refuseTenancy(); err != nil {
		return err
	}
	if rq.route.where == here {
		return nil
	}
	if rq.route.headers != plain && len(rq.values) > 0 {
		if err := rq.parseWait(); err != nil {
			return err
		}
	}
	if err := rq.parseMode(); err != nil {
		return err
	}
	rq.parseNodeMeta()
	return rq.parseDatacenter()
}

func (rq *request) param(name string) string { return rq.values.Get(name) }
func (rq *request) has(name string) bool     { return rq.values.Has(name) }

// refuseTenancy refuses what only the reference's paid edition has, as its free
// one does.
func (rq *request) refuseTenancy() error {
	const (
		bad    = `Invalid %s: "%s" - %s are a Consul Enterprise feature`
		param  = "query parameter"
		header = "header"
	)
	if rq.has("partition") {
		return api.Errorf(http.StatusBadRequest, bad, param, "partition", "Partitions")
	}
	if rq.r.Header.Get("X-Consul-Partition") != "" {
		return api.Errorf(http.StatusBadRequest, bad, header, "X-Consul-Partition", "Partitions")
	}
	if !rq.route.namespaced {
		return nil
	}
	if rq.has("ns") {
		return api.Errorf(http.StatusBadRequest, bad, param, "ns", "Namespaces")
	}
	if rq.r.Header.Get("X-Consul-Namespace") != "" {
		return api.Errorf(http.StatusBadRequest, bad, header, "X-Consul-Namespace", "Namespaces")
	}
	return nil
}

// parseWait reads wait, index and hash. A wait gets up to a sixteenth more, so
// that those who asked together do not come back together.
func (rq *request) parseWait() error {
	wait, err := rq.parseIndex(rq.api.cfg.DefaultQueryTime)
	if err != nil {
		return err
	}
	if rq.r.Method != http.MethodGet {
		rq.index = 0 // it is checked, as in the reference, but a write never waits
		return nil
	}
	rq.hash = rq.param("hash")
	rq.until = time.Now().Add(wait + rand.N(wait/16+1))
	return nil
}

// parseIndex reads index, and wait with its default.
func (rq *request) parseIndex(wait time.Duration) (time.Duration, error) {
	if v := rq.param("wait"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return 0, api.Errorf(http.StatusBadRequest, "Invalid wait time")
		}
		if d > 0 {
			wait = d
		}
	}
	name := "index"
	if rq.route.changes && rq.has(changesSince) {
		name = changesSince
	}
	if v := rq.param(name); v != "" {
		index, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, api.Errorf(http.StatusBadRequest, "Invalid %s", name)
		}
		rq.index = index
	}
	return min(wait, rq.api.cfg.MaxQueryTime), nil
}

// since is the index after which changes are asked for; 0 asks for everything.
func (rq *request) since() uint64 {
	n, _ := strconv.ParseUint(rq.param(changesSince), 10, 64) // parseWait has refused others
	return n
}

// wait is what is left of the waiting time.
func (rq *request) wait() time.Duration { return max(time.Until(rq.until), 0) }

// shortenWait makes the request ask for the rest of its waiting time, or for no
// waiting at all, where it is sent on.
func (rq *request) shortenWait() {
	if left := rq.wait(); left > 0 {
		rq.values.Set("wait", left.String())
	} else {
		rq.values.Del("index")
		if rq.has(changesSince) { // which stays, and waits
			rq.values.Set("wait", "1ns")
		}
		rq.index = 0
	}
	rq.r.URL.RawQuery = rq.values.Encode()
}

func (rq *request) parseMode() error {
	if err := checkCacheControl(rq.r.Header.Get("Cache-Control")); err != nil {
		return err
	}
	wantStale, wantConsistent := rq.has("stale"), rq.has("consistent")
	maxStale := time.Duration(0)
	if v := rq.param("max_stale"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return api.Errorf(http.StatusBadRequest, "Invalid max_stale value %q", v)
		}
		if maxStale = d; d > 0 {
			wantStale = true
		}
	}
	if rq.route.headers == discovery && !wantStale && !wantConsistent && !rq.has("leader") && rq.api.cfg.DiscoveryMaxStale > 0 {
		maxStale, wantStale = rq.api.cfg.DiscoveryMaxStale, true
	}
	const conflict = "Cannot specify ?%s with ?consistent, conflicting semantics."
	switch {
	case wantStale && wantConsistent:
		return api.Errorf(http.StatusBadRequest, conflict, "stale")
	case rq.has("cached") && wantConsistent:
		return api.Errorf(http.StatusBadRequest, conflict, "cached")
	case wantConsistent:
		rq.mode = consistent
	case wantStale && !rq.tooStale(maxStale):
		rq.mode = stale
	}
	return nil
}

// tooStale tells that this server has not heard from the leader for longer than
// the reader allows; the leader is asked then.
func (rq *request) tooStale(limit time.Duration) bool {
	c := rq.api.cfg.Cluster
	return limit > 0 && rq.route.headers == discovery && c != nil && c.LastContact() > limit
}

func checkCacheControl(header string) error {
	if header == "" {
		return nil
	}
	for directive := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "max-age", "stale-if-error":
			if _, err := strconv.ParseUint(value, 10, 32); err != nil {
				return api.Errorf(http.StatusBadRequest, "Invalid Cache-Control header.")
			}
		}
	}
	return nil
}

func (rq *request) parseNodeMeta() {
	for _, pair := range rq.values["node-meta"] {
		key, value, _ := strings.Cut(pair, ":")
		if rq.nodeMeta == nil {
			rq.nodeMeta = map[string]string{}
		}
		rq.nodeMeta[key] = value
	}
}

func (rq *request) parseDatacenter() error {
	dc := rq.param("datacenter")
	if dc == "" {
		dc = rq.param("dc")
	}
	return rq.api.checkDatacenter(dc)
}

// checkDatacenter refuses any datacenter but ours: there is no way to another yet.
func (a *API) checkDatacenter(dc string) error {
	if dc == "" || strings.EqualFold(dc, a.cfg.Datacenter) {
		return nil
	}
	return api.ErrNoDatacenter
}

// number reads an unsigned parameter that was given, maybe empty.
func (rq *request) number(name string) (uint64, error) {
	n, err := strconv.ParseUint(rq.param(name), 10, 64)
	if err != nil {
		return 0, api.Errorf(http.StatusInternalServerError, "%v", err)
	}
	return n, nil
}
