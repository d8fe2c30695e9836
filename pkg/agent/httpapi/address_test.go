package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-dev/muster/pkg/api"
)

// What agents ask each other is answered on the server port and nowhere else.
func TestInsideRoutes(t *testing.T) {
	r := newRig(t)
	r.must("PUT /v1/catalog/register", `{"Node":"n1","Address":"10.1.2.3","Service":{"Service":"web","Address":"10.9.9.9","Port":80}}`)
	for _, rt := range routes() {
		if rt.where != inside {
			continue
		}
		if w := r.do("GET "+rt.path+"10.1.2.3", ""); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "not a recognized") {
			t.Errorf("%s on the client address: %d %s", rt.path, w.Code, w.Body)
		}
	}
	get := func(path string) (string, int) {
		w := r.send(t.Context(), r.api.Internal(), "GET /v1/internal/"+path, "")
		return w.Body.String(), w.Code
	}
	var node api.Node
	body, code := get("by-address/node/10.1.2.3")
	if err := json.Unmarshal([]byte(body), &node); err != nil || code != 200 || node.Node != "n1" {
		t.Errorf("node by address: %d %s", code, body)
	}
	var service api.ServiceNode
	body, code = get("by-address/service/10.9.9.9")
	if err := json.Unmarshal([]byte(body), &service); err != nil || code != 200 || service.ServiceName != "web" {
		t.Errorf("service by address: %d %s", code, body)
	}
	for _, path := range []string{"by-address/node/10.9.9.9", "by-address/service/10.1.2.4", "by-address/node/", "elected/jobs", "elected/"} {
		if body, code = get(path); code != 404 || strings.Contains(body, "not a recognized") {
			t.Errorf("%s: %d %s, want a plain 404", path, code, body)
		}
	}
}
