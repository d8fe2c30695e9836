package main

import (
	"cmp"
	"fmt"
	"net/http"
)

// An instance is one of a service, on a node that runs no agent.
type instance struct {
	service   string
	n         int
	node, tag string
	status    string // passing, if empty
}

func (in instance) register(c *conn) error {
	id := fmt.Sprintf("%s-%d", in.service, in.n)
	_, err := c.ask(http.MethodPut, "/v1/catalog/register", fmt.Appendf(nil, `{"Node":%q,"Address":"127.1.%d.%d",`+
		`"Service":{"ID":%q,"Service":%q,"Port":%d,"Tags":[%q],"Meta":{"version":"1"}},`+
		`"Check":{"CheckID":"service:%s","Name":"http","Status":%q,"ServiceID":%q}}`,
		in.node, in.n/250, in.n%250+1, id, in.service, 8000+in.n, in.tag, id, cmp.Or(in.status, "passing"), id))
	return err
}

// register registers a service of n instances, each on a node of its own.
func register(addr, service string, n int) {
	each(addr, n, func(c *conn, i int) error {
		return instance{service: service, n: i, node: fmt.Sprintf("bench-node-%d", i), tag: "v1"}.register(c)
	})
}

// health asks for the passing instances of a service.
func health(r *run) {
	a := r.single()
	for _, n := range r.sizes(10, 100, 1000) {
		service := fmt.Sprintf("bench-web-%d", n)
		register(a.addr, service, n)
		r.settle(a.pids())
		r.emit("health", fmt.Sprintf("n=%d", n), r.load(16, a.pids(), func(int) (func() error, func()) {
			c := dial(a.addr)
			return func() error {
				resp, err := c.ask(http.MethodGet, "/v1/health/service/"+service+"?passing", nil)
				if err == nil && len(resp.body) < n*100 {
					err = fmt.Errorf("%d instances in %d bytes", n, len(resp.body))
				}
				return err
			}, c.close
		}))
	}
}
