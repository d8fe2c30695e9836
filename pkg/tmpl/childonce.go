package tmpl

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/pkg/cli"
)

// once runs the command to its end; the error carries its exit code. An end that
// ctx caused is none. early says that the command refused the files, rather than
// failing after it had worked with them for a while.
func (x *executor) once(ctx context.Context) (early bool, err error) {
	c, err := x.start()
	if err != nil {
		return true, cli.Exit(cli.ExitRun, fmt.Errorf("start %q: %w", x.cfg.Command, err))
	}
	began := time.Now()
	ended := make(chan exit, 1)
	x.child, x.ended = c, ended
	go func() {
		code, err := c.Wait(context.Background())
		ended <- exit{code, err}
	}()
	for {
		select {
		case <-ctx.Done():
			x.shutdown()
			return false, nil
		case sig := <-x.others:
			x.passOn(sig)
		case e := <-ended:
			x.child = nil
			return time.Since(began) < refusedWithin, failure(x.cfg.Command, e.code, e.err)
		}
	}
}

// execOnce is -exec with Once: one attempt, and one more on what was there before
// if the first is refused. The code of the first is what counts.
func (e *engine) execOnce(ctx context.Context) {
	early, err := e.exec.once(ctx)
	if err == nil {
		return
	}
	e.fail(err)
	if !early || !e.restoreAll(time.Time{}, "", false) || ctx.Err() != nil {
		return
	}
	e.log.Error("command failed, the files before are restored; running it once on them", "error", err)
	if _, err := e.exec.once(ctx); err != nil {
		e.log.Error("command failed on the restored files too", "error", err)
	}
}
