package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How a guard is started: argv is {guardName, mode, deadline, path, argv of the
// child...}, fd 3 gives it orders and fd 4 takes what it says, a line each.
const (
	guardName    = "muster-guard"
	guardEnv     = "MUSTER_GUARD" // a token, in the environment of all that it runs
	guardControl = 3
	guardStatus  = 4

	modeKill  = "kill"  // at the child's end, kill what it left
	modeLeave = "leave" // leave it
	modeKeep  = "keep"  // kill it, and stay for another child

	doSignal   = "signal"   // order: signal N to the child's group
	doKill     = "kill"     // order: SIGKILL
	doDeadline = "deadline" // order: a Deadline, see its String
	doAgain    = "again"    // order: start another child, see its String

	sayStarted = "started" // and the pid
	sayError   = "error"   // and why the child could not be started
	sayExit    = "exit"    // and the child's code
)

// killTime is how long a guard tries to kill a tree: what is left then is not
// ours to kill (another user's), or sits in the kernel.
const killTime = 10 * time.Second

// GuardMain is called first thing in main. It returns at once unless this
// process was started to be a guard; then it does not return.
func GuardMain() {
	if len(os.Args) < 5 || os.Args[0] != guardName {
		return
	}
	// The child gets a signal when the thread that started it ends.
	runtime.LockOSThread()
	g := &guard{leave: os.Args[1] == modeLeave, keep: os.Args[1] == modeKeep}
	g.setDeadline(os.Args[2])
	os.Exit(g.run(os.Args[3], os.Args[4:]))
}

// guard runs one child, or several one after the other, and outlives it until nothing is left to do. All of it
// runs on one goroutine, so that a process id is never used after it was reaped.
type guard struct {
	leave  bool
	keep   bool
	child  int // 0 once reaped
	code   int
	status *os.File

	deadline Deadline
	termed   bool
	alarm    *alarm // nil until there is a deadline
}

func (g *guard) run(path string, argv []string) int {
	syscall.CloseOnExec(guardControl)
	syscall.CloseOnExec(guardStatus)
	g.status = os.NewFile(guardStatus, "status")
	if err := adoptOrphans(); err != nil {
		g.say("%s become a subreaper: %v", sayError, err)
		return 1
	}
	// Caught, not ignored: the child would inherit that. SIGCHLD may be told
	// once for several ends; the others go to whom they were meant for.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	others := make(chan os.Signal, 16)
	signal.Notify(others, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)

	if !g.start(again{path, argv, os.Environ()}) {
		return 1
	}
	orders := make(chan order)
	go readOrders(orders)
	for g.serve(orders, ended, others) && g.keep && g.wait(orders, ended, others) {
	}
	return g.code
}

// serve attends to the child until it has ended; false: the supervisor is gone.
func (g *guard) serve(orders <-chan order, ended, others <-chan os.Signal) bool {
	for g.child != 0 {
		select {
		case <-ended:
			g.reap()
		case sig := <-others:
			g.signal(sig.(syscall.Signal))
		case <-g.alarm.rings():
			g.keepDeadline()
		case o, ok := <-orders:
			switch {
			case !ok: // so is everything
				g.killTree()
				return false
			case o.word == doSignal:
				if n, err := strconv.Atoi(o.rest); err == nil {
					g.signal(syscall.Signal(n))
				}
			case o.word == doDeadline:
				g.setDeadline(o.rest)
			case o.word == doKill && g.leave:
				g.signal(syscall.SIGKILL)
			case o.word == doKill:
				g.killTree()
			}
		}
	}
	if !g.leave {
		g.killTree()
	}
	g.say("%s %d", sayExit, g.code)
	return true
}

// say writes one line; a supervisor that does not hear it any more is dead, and
// the orders' end says so too.
func (g *guard) say(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	_, _ = io.WriteString(g.status, line+"\n")
}

// signal sends sig to the child's process group. The group's number is the
// child's until the child is reaped.
func (g *guard) signal(sig syscall.Signal) {
	if g.child != 0 {
		_ = syscall.Kill(-g.child, sig) // ESRCH: it has just ended
	}
}

// reap takes in all that has ended, adopted orphans too, and says whether
// nothing is left.
func (g *guard) reap() (none bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return true
		case pid == 0:
			return false
		case pid == g.child:
			g.child, g.code = 0, exitCode(ws)
		}
	}
}

// killTree kills everything below the guard. Whoever is orphaned by it becomes
// our child, so that nothing is missed as long as we look again until nothing
// is left.
func (g *guard) killTree() {
	g.signal(syscall.SIGKILL)
	pause := time.Millisecond
	for give := time.Now().Add(killTime); !g.reap() && time.Now().Before(give); {
		for _, pid := range descendants(os.Getpid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(pause)
		pause = min(2*pause, 20*time.Millisecond)
	}
}
