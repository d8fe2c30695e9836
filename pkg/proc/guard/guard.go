// Package guard is the process that stands between a program of ours and the
// children that package proc starts for it: our own binary, started again in a
// session of its own, or at a terminal in a process group of its own, under the name
// "muster-guard". It forks the children, one
// after the other, as its supervisor orders, and keeps their deadline, whether the
// supervisor lives, is stopped or is dead. When its orders end because the
// supervisor died, even by kill -9, it kills the child with everything below it.
//
// A guard does its work in this package's init and never comes to main. To start a
// process costs what its pages cost. Of the packages whose imports are ready Go sets up
// that with the least path first: a guard begins before nearly all else in the binary
// is set up, unless it imports what comes late in the alphabet, even "strings". So this
// package imports hardly more than os and os/signal need themselves, which a test sees
// to, and does in text.go by hand what is lacking. An idle guard is small, too.
package guard

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// How a guard is started: argv is {Name}; on fd ControlFD, a socket, it gets an
// Order for each child and the orders below, a line each, and on StatusFD it says
// what becomes of them, a line each too.
const (
	Name      = "muster-guard"
	Env       = "MUSTER_GUARD" // a token, in the environment of all that it runs
	ControlFD = 3
	StatusFD  = 4

	DoSignal   = "signal"   // order: to child PID's group, signal N
	DoPass     = "pass"     // the same, unless it has got that from whom we have it, see echo
	DoKill     = "kill"     // order: to child PID, SIGKILL
	DoDeadline = "deadline" // order: for child PID, a Deadline, see its String
	doStart    = "start"    // order: see Order.String

	SayStarted = "started" // and the pid
	SayError   = "error"   // and why the child could not be started
	SayStopped = "stopped" // and by which signal; at a terminal only
	SayExit    = "exit"    // and the child's code
)

// KillTime is how long a guard tries to kill a tree: what is left then is not
// ours to kill (another user's), or sits in the kernel.
const KillTime = 10 * time.Second

func init() {
	if len(os.Args) != 1 || os.Args[0] != Name {
		return
	}
	// The child gets a signal when the thread that started it ends.
	runtime.LockOSThread()
	os.Exit(new(guard).run())
}

// guard runs children until its orders end. All of it runs on one goroutine, so
// that a process id is never used after it was reaped.
type guard struct {
	child  int  // 0 once reaped
	leave  bool // what the child leaves when it ends by itself lives on
	stops  bool // the supervisor hears of the child's stops
	code   int
	status *os.File

	orders <-chan order
	ended  chan os.Signal // a child did
	others chan os.Signal // what else we get: no order, but see echo
	echo   echo

	deadline Deadline
	termed   bool
	timer    *bootTimer // nil until there is a deadline
}

func (g *guard) run() int {
	syscall.CloseOnExec(ControlFD)
	syscall.CloseOnExec(StatusFD)
	g.status = os.NewFile(StatusFD, "status")
	if err := adoptOrphans(); err != nil {
		g.say(SayError, "become a subreaper: "+err.Error())
		return 1
	}
	// Caught, not ignored: the child would inherit that. SIGCHLD may be told
	// once for several ends.
	g.ended = make(chan os.Signal, 1)
	signal.Notify(g.ended, syscall.SIGCHLD)
	g.others = make(chan os.Signal, 16)
	signal.Notify(g.others, broadcast()...)

	orders := make(chan order)
	g.orders = orders
	go readOrders(orders)
	for g.await() && g.serve() {
	}
	return 0
}

// await waits for a child while there is none; false: there will be none.
func (g *guard) await() bool {
	for {
		select {
		case <-g.ended:
			g.reap()
		case <-g.others: // nobody's
		case o, ok := <-g.orders:
			if !ok {
				return false
			}
			if o.word != doStart {
				continue // for one that has just ended
			}
			if g.start(o.start) {
				return true
			}
		}
	}
}

// start starts a child; false: it could not be, and the supervisor knows why.
func (g *guard) start(o Order) bool {
	pid, err := fork(o)
	o.closeFiles()
	if err != nil {
		g.say(SayError, "fork/exec "+o.Path+": "+err.Error())
		return false
	}
	g.child, g.leave, g.stops, g.code, g.termed, g.echo = pid, o.Leave, o.Terminal, 0, false, echo{}
	g.setDeadline(o.Deadline)
	g.say(SayStarted, itoa(pid))
	return true
}

func fork(o Order) (pid int, err error) {
	if o.Foreground {
		return forkForeground(o)
	}
	return syscall.ForkExec(o.Path, o.Argv, &syscall.ProcAttr{
		Dir: o.Dir, Env: o.Env, Files: o.files[:], Sys: childAttr(),
	})
}

// serve attends to the child until it has ended; false: the supervisor is gone.
func (g *guard) serve() bool {
	for g.child != 0 {
		select {
		case <-g.ended:
			g.reap()
		case sig := <-g.others:
			g.echo.hear(sig.(syscall.Signal))
		case <-g.echo.fired():
			for _, sig := range g.echo.due() {
				g.signal(sig)
			}
		case <-g.timer.fired():
			g.keepDeadline()
		case o, ok := <-g.orders:
			if !ok { // so is everything
				g.killTree()
				return false
			}
			g.obey(o)
		}
	}
	if !g.leave {
		g.killTree()
	}
	g.say(SayExit, itoa(g.code))
	return true
}

// obey follows an order about the child. One about another is late: it was for a
// child that has ended meanwhile.
func (g *guard) obey(o order) {
	pid, rest := cut(o.rest, ' ')
	if pid != itoa(g.child) {
		return
	}
	switch {
	case o.word == DoSignal, o.word == DoPass:
		n, ok := atoi(rest)
		switch {
		case !ok || n < 0 || n > lastSignal:
		case o.word == DoSignal:
			g.signal(syscall.Signal(n))
		default:
			g.echo.pass(syscall.Signal(n))
		}
	case o.word == DoDeadline:
		if d, ok := parseDeadline(rest); ok {
			g.setDeadline(d)
		}
	case o.word == DoKill && g.leave:
		g.signal(syscall.SIGKILL)
	case o.word == DoKill:
		g.killTree()
	}
}

// say writes one line; a supervisor that does not hear it any more is dead, and
// the orders' end says so too.
func (g *guard) say(word, rest string) {
	_, _ = io.WriteString(g.status, word+" "+oneLine(rest)+"\n")
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
	options := syscall.WNOHANG
	if g.stops {
		options |= syscall.WUNTRACED
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, options, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return true
		case pid == 0:
			return false
		case ws.Stopped():
			if pid == g.child {
				g.say(SayStopped, itoa(int(ws.StopSignal())))
			}
		case pid == g.child:
			g.child, g.code = 0, ExitCode(ws)
		}
	}
}

// killTree kills everything below the guard. Whoever is orphaned by it becomes
// our child, so that nothing is missed as long as we look again until nothing
// is left.
func (g *guard) killTree() {
	g.signal(syscall.SIGKILL)
	pause := time.Millisecond
	for give := time.Now().Add(KillTime); !g.reap() && time.Now().Before(give); {
		for _, pid := range descendants(os.Getpid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(pause)
		pause = min(2*pause, 20*time.Millisecond)
	}
}

// ExitCode is a process's end as a shell would report it: its code, or 128 plus
// the signal that ended it.
func ExitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
