package lock

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/client"
	"github.com/muster-dev/muster/pkg/retry"
)

// monitorAfter is how long a lock is held before monitor reads its key: shorter work
// costs no request.
const monitorAfter = 100 * time.Millisecond

// monitor follows the key until ctx ends; it returns ErrLost when our session does
// not hold the key any more. A read that fails changes nothing: keep decides when
// missing contact means a loss.
func (l *Lock) monitor(ctx context.Context, g grant) error {
	index, errBackoff := g.token, newBackoff()
	if retry.Sleep(ctx, monitorAfter) != nil {
		return nil
	}
	for {
		pair, meta, err := waitFor(ctx, l.cfg.Client, g.key, client.Options{Index: index, Consistent: true})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if errBackoff.Sleep(ctx) != nil {
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
		index = meta.Index
		errBackoff.Reset()
	}
}
