package server

import (
	"context"

	"github.com/muster-dev/muster/pkg/api"
)

// WhileLeading gives a context that ends with ctx, or when this server stops to
// lead: then with the cause api.ErrNoLeader. Where it does not lead it has
// ended already. Call the function when done.
func (s *Server) WhileLeading(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := s.ready.Load()
	if t == nil {
		cancel(api.ErrNoLeader)
		return ctx, func() {}
	}
	unhook := context.AfterFunc(t.ctx, func() { cancel(api.ErrNoLeader) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}
