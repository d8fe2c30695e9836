package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pids are the processes that a measurement is charged to.
type pids []int

// cpu is the user and system time of the processes so far, in seconds, without
// that of children that they have waited for. Linux counts it in ticks of 10 ms.
func (p pids) cpu() float64 {
	ticks := 0
	for _, pid := range p {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // nothing for one that has ended
		_, rest, ok := bytes.Cut(b, []byte(") "))
		if f := bytes.Fields(rest); ok && len(f) > 12 {
			user, _ := strconv.Atoi(string(f[11]))
			system, _ := strconv.Atoi(string(f[12]))
			ticks += user + system
		}
	}
	return float64(ticks) / 100
}

// rss is their resident memory in MB; peak what one has had at most.
func (p pids) rss() float64  { return p.status("VmRSS:") }
func (p pids) peak() float64 { return p.status("VmHWM:") }

func (p pids) status(field string) float64 {
	kb := 0
	for _, pid := range p {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, rest, _ := strings.Cut(string(b), field)
		if f := strings.Fields(rest); len(f) > 0 {
			n, _ := strconv.Atoi(f[0])
			kb += n
		}
	}
	return float64(kb) / 1024
}

// A process is one that a run has started, the leader of a group.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

func (p *process) pids() pids { return pids{p.cmd.Process.Pid} }

// signal reaches all of its group. One that has ended is left alone, as its number
// may be another's by now.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, sig) // it may end just now
	}
}

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// succeed waits for its end, which has to be a good one.
func (p *process) succeed() *os.ProcessState {
	if <-p.done; !p.cmd.ProcessState.Success() {
		check(fmt.Errorf("%v: %v", p.cmd, p.cmd.ProcessState))
	}
	return p.cmd.ProcessState
}

// spawn starts a command; it dies with the run, and with this program.
func (r *run) spawn(words ...string) *process {
	log := must(os.Create(filepath.Join(r.dir, fmt.Sprintf("%d-%s.log", len(r.procs), filepath.Base(words[0])))))
	defer log.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, log, log
	// What tools keep for the next time is no concern of the user's.
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+r.dir, "XDG_CACHE_HOME="+r.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	check(cmd.Start())
	p := &process{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()                                      // its state tells
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left in its group
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.procs = append(r.procs, p)
	if r.ctx.Err() != nil { // the others have been killed; this one came late
		p.kill()
	}
	return p
}

// tool starts one of the column's tools; a set that needs one that is not there
// is left out.
func (r *run) tool(name, addressFlag string, a *agent, args ...string) *process {
	path := r.col.tool(name)
	if path == "" {
		check(errors.ErrUnsupported)
	}
	return r.spawn(slices.Concat(strings.Fields(path), []string{addressFlag + a.addr}, args)...)
}

// A loopback is 127.x.0.0/16, held by a listener as those of the tests are, so that
// both can run at a time: every agent has an address of its own, and its usual ports.
type loopback struct {
	net.Listener
	x, given int
}

func claimNet() (*loopback, error) {
	for x := 130; x <= 250; x++ {
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.255.254:9999", x)); err == nil {
			return &loopback{Listener: ln, x: x}, nil
		}
	}
	return nil, errors.New("every 127.x.0.0/16 from 130 to 250 is in use")
}

func (l *loopback) next() string {
	l.given++
	return fmt.Sprintf("127.%d.%d.%d", l.x, l.given/250%250, l.given%250+1)
}

// allowFiles raises the limit on open files, for this process and its children.
func allowFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// machine is what the figures depend on most.
func machine() string {
	load, _ := os.ReadFile("/proc/loadavg")
	info, _ := os.ReadFile("/proc/cpuinfo")
	_, model, _ := strings.Cut(string(info), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	return fmt.Sprintf("%s, linux/%s, %d cores %s, load average %.4s", time.Now().Format(time.DateOnly), runtime.GOARCH, runtime.NumCPU(), model, load)
}
