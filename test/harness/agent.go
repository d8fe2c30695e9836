package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// Agent is one muster agent; it can be stopped and started again. Its client asks
// its HTTP API.
type Agent struct {
	C      *Cluster
	Name   string
	IP     string
	Server bool
	Flags  []string // for the next start
	nth    int      // in its cluster, from 1
	proc   *Process
	*client.Client
}

// Addr is where its HTTP API listens.
func (a *Agent) Addr() string { return a.IP + ":8500" }

// DataDir is where it keeps its data.
func (a *Agent) DataDir() string { return filepath.Join(a.C.Dir, a.Name) }

// LogPath is where its output goes, that of all its starts.
func (a *Agent) LogPath() string { return filepath.Join(a.C.Dir, a.Name+".log") }

// Said counts a text in its log.
func (a *Agent) Said(text string) int {
	log, _ := os.ReadFile(a.LogPath())
	return strings.Count(string(log), text)
}

// AwaitSaid waits for a text in its log.
func (a *Agent) AwaitSaid(text string) {
	a.C.T.Helper()
	Until(a.C.T, a.Name+" says "+text, func(context.Context) error {
		if a.Said(text) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
}

// Start starts it, and waits for nothing.
func (a *Agent) Start() {
	a.C.T.Helper()
	if a.Up() && Alive(a.proc.Pid()) {
		a.C.T.Fatalf("%s runs already", a.Name)
	}
	bin := a.C.Bin
	if bin == "" {
		bin = Bin(a.C.T)
	}
	cmd := exec.Command(filepath.Join(bin, "agent"), a.Flags...)
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(a.LogPath())) // what a killed agent leaves goes with the test
	a.proc = spawn(a.C.T, a.LogPath(), a.Beside(cmd))
}

// Up reports whether it was started and not ended.
func (a *Agent) Up() bool { return a.proc != nil }

// Process is the running process; nil if there is none.
func (a *Agent) Process() *Process { return a.proc }

// Kill is kill -9.
func (a *Agent) Kill() {
	if a.proc != nil {
		a.proc.Kill()
		a.proc = nil
	}
}

// Signal sends it a signal.
func (a *Agent) Signal(sig syscall.Signal) { a.C.T.Helper(); a.proc.Signal(sig) }

// Pause stops it until Resume.
func (a *Agent) Pause() { a.C.T.Helper(); a.proc.Pause() }

// Resume ends a Pause.
func (a *Agent) Resume() { a.C.T.Helper(); a.proc.Resume() }

// Exit waits until it has ended by itself and returns its code, -1 for a signal.
func (a *Agent) Exit() int {
	a.C.T.Helper()
	code := a.proc.Exit()
	a.proc = nil
	return code
}

// PutKey writes a key, which must be accepted at once.
func (a *Agent) PutKey(key, value string) {
	a.C.T.Helper()
	if ok, err := a.KVPut(a.C.T.Context(), key, []byte(value), client.KVWrite{}, nil); err != nil || !ok {
		a.C.T.Fatalf("put %s at %s: %v, %v", key, a.Name, ok, err)
	}
}

// AwaitPutKey writes a key, and retries while there is no leader.
func (a *Agent) AwaitPutKey(key, value string) {
	a.C.T.Helper()
	Until(a.C.T, "put "+key, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := a.KVPut(ctx, key, []byte(value), client.KVWrite{}, nil)
		return err
	})
}

// GetKey reads a key; "" where there is none.
func (a *Agent) GetKey(key string, o *client.Options) string {
	a.C.T.Helper()
	pair, _, err := a.KVGet(a.C.T.Context(), key, o)
	if err != nil {
		a.C.T.Fatalf("get %s at %s: %v", key, a.Name, err)
	}
	if pair == nil {
		return ""
	}
	return string(pair.Value)
}

// RegisterNode puts an instance into the catalog, on a node that runs no agent.
func (a *Agent) RegisterNode(service, id string, port int) {
	a.C.T.Helper()
	if err := a.CatalogRegister(a.C.T.Context(), &api.CatalogRegistration{
		Node: "outside", Address: "192.0.2.1",
		Service: &api.NodeService{Service: service, ID: id, Port: port},
	}); err != nil {
		a.C.T.Fatal(err)
	}
}

// Register registers an instance with this agent and waits until the catalog has
// it.
func (a *Agent) Register(service, id string, tags ...string) {
	a.C.T.Helper()
	reg := &api.AgentServiceRegistration{Name: service, ID: id, Port: 80, Tags: tags}
	if err := a.ServiceRegister(a.C.T.Context(), reg); err != nil {
		a.C.T.Fatal(err)
	}
	Until(a.C.T, id+" is in the catalog", func(ctx context.Context) error {
		instances, _, err := a.HealthService(ctx, service, false, nil)
		if err != nil {
			return err
		}
		for _, i := range instances {
			if i.Service.ID == id {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// NodeStatus is serfHealth of a node as this agent reads it, "" for none.
func (a *Agent) NodeStatus(ctx context.Context, node string) (string, error) {
	checks, _, err := a.HealthNode(ctx, node, nil)
	if err != nil {
		return "", err
	}
	for _, c := range checks {
		if c.CheckID == api.SerfHealthID {
			return c.Status, nil
		}
	}
	return "", nil
}

// AwaitStatus waits until this agent reads that serfHealth of a node is so; "" is
// that there is none.
func (a *Agent) AwaitStatus(node, want string) {
	a.C.T.Helper()
	Until(a.C.T, fmt.Sprintf("%s sees %s %q", a.Name, node, want), func(ctx context.Context) error {
		got, err := a.NodeStatus(ctx, node)
		if err == nil && got != want {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
}

// mustRun fails the test, with its last words, if it has ended by itself.
func (a *Agent) mustRun() {
	a.C.T.Helper()
	if a.proc == nil {
		return
	}
	select {
	case <-a.proc.Done():
		a.C.T.Fatalf("%s has ended by itself, %v:\n%s", a.Name, a.proc.Ended(), Tail(a.LogPath(), 20))
	default:
	}
}

// AwaitReady waits until this agent sees as many nodes pass as the cluster has.
func (a *Agent) AwaitReady() {
	a.C.T.Helper()
	Until(a.C.T, a.Name+" sees everyone pass", func(ctx context.Context) error {
		a.mustRun()
		checks, _, err := a.HealthState(ctx, api.HealthPassing, nil)
		if err != nil {
			return err
		}
		n := 0
		for _, check := range checks {
			if check.CheckID == api.SerfHealthID {
				n++
			}
		}
		if want := len(a.C.Agents); n != want {
			return fmt.Errorf("%d of %d pass", n, want)
		}
		return nil
	})
}
