package server

import "context"

// WhileLeading gives a context that ends with ctx, or when this server stops to
// lead: then with the cause "No cluster leader". Where it does not lead it has
// ended already. Call the function when done.
func (s *Server) WhileLeading(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := s.ready.Load()
	if t == nil {
		cancel(errNoLeader())
		return ctx, func() {}
	}
	unhook := context.AfterFunc(t.ctx, func() { cancel(errNoLeader()) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}
