package lock

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/client"
)

// monitorAfter is how long a lock is held before it is looked after: work that
// is shorter costs no request for that.
const monitorAfter = 100 * time.Millisecond

// monitor follows the key until ctx ends; it returns ErrLost when the key is
// not held by our session any more. What it cannot read it takes for unchanged:
// loss of contact is for the session's time to judge.
func (l *Lock) monitor(ctx context.Context, g grant) error {
	index, fault := g.token, pause{}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(monitorAfter):
	}
	for {
		pair, meta, err := waitFor(ctx, l.cfg.Client, g.key, client.Options{Index: index, Consistent: true})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if fault.sleep(ctx, longPause) != nil {
				return nil
			}
			continue
		case pair == nil:
			return fmt.Errorf("%w: %s was deleted", ErrLost, g.key)
		case pair.Session == "":
			return fmt.Errorf("%w: the session that held %s has ended", ErrLost, g.key)
		case pair.Session != g.sid:
			return fmt.Errorf("%w: %s is held by session %s", ErrLost, g.key, pair.Session)
		}
		index, fault = meta.Index, pause{}
	}
}
