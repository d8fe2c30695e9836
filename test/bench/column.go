package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A column is what is measured: programs of ours or of others.
type column struct {
	name    string
	only    string // the sets it can take, blank between them; "" is all that need an agent
	port    string
	command func(n node) []string           // of a server or a client agent
	tool    func(name string) (path string) // blank in it before a subcommand; "" where there is no such tool
}

// A node is what an agent has to know to start.
type node struct {
	name, ip, dir, join, config string
	servers                     int // to expect; 0 for a client agent
}

func (c *column) takes(set string) bool {
	if c.only == "" {
		return set != "fsync"
	}
	return slices.Contains(strings.Fields(c.only), set)
}

// agentConfig lets 10,000 watchers and remote execution in.
const agentConfig = `{"disable_update_check": true, "disable_remote_exec": false, "limits": {"http_max_conns_per_client": 15000}}`

// agentFlags are those of any agent; muster and consul have the same.
func agentFlags(n node) []string {
	flags := []string{"-node=" + n.name, "-bind=" + n.ip, "-client=" + n.ip, "-data-dir=" + n.dir,
		"-retry-join=" + n.join, "-config-file=" + n.config, "-log-level=warn"}
	if n.servers > 0 {
		flags = append(flags, "-server", "-bootstrap-expect="+strconv.Itoa(n.servers))
	}
	return flags
}

func musterColumn(name, bin string) *column {
	return &column{
		name: name, port: "8500",
		command: func(n node) []string { return append([]string{filepath.Join(bin, "agent")}, agentFlags(n)...) },
		tool: func(name string) string {
			if name == "exec" { // which is done when all have answered, so that this only is maxWait
				name += " -wait=1m"
			}
			return filepath.Join(bin, name)
		},
	}
}

func consulColumn(program string) *column {
	beside := map[string]string{"tmpl": "consul-template", "envexec": "envconsul"}
	return &column{
		name: "consul", port: "8500",
		command: func(n node) []string { return append([]string{program, "agent"}, agentFlags(n)...) },
		tool: func(name string) string {
			if beside[name] == "" {
				return program + " " + name
			}
			path, _ := exec.LookPath(beside[name])
			return path
		},
	}
}

func etcdColumn(program string) *column {
	return &column{
		name: "etcd", only: "kv get", port: "2379",
		command: func(n node) []string {
			clients, peers := "http://"+n.ip+":2379", "http://"+n.ip+":2380"
			return []string{program, "--name=" + n.name, "--data-dir=" + n.dir, "--log-level=error",
				"--listen-client-urls=" + clients, "--advertise-client-urls=" + clients, "--listen-peer-urls=" + peers,
				"--initial-advertise-peer-urls=" + peers, "--initial-cluster=" + n.name + "=" + peers}
		},
	}
}

func limitColumn() *column {
	return &column{
		name: "limit", only: "fsync kv get health dns wake quiet", port: "8500",
		command: func(n node) []string { return []string{self(), "null", n.ip, n.dir} },
	}
}

// self is this program, for what it does as a child.
func self() string { return must(os.Executable()) }

// put is the request that writes a key: etcd's is that of its JSON gateway, which
// costs more than its gRPC.
func (c *column) put(key string, value []byte) (method, path string, body []byte) {
	if c.name == "etcd" {
		return http.MethodPost, "/v3/kv/put", fmt.Appendf(nil, `{"key":%q,"value":%q}`, b64([]byte(key)), b64(value))
	}
	return http.MethodPut, "/v1/kv/" + key, value
}

func (c *column) get(key, consistency string) (method, path string, body []byte) {
	if c.name == "etcd" {
		return http.MethodPost, "/v3/kv/range", fmt.Appendf(nil, `{"key":%q,"serializable":%v}`, b64([]byte(key)), consistency == "stale")
	}
	if consistency != "default" {
		key += "?" + consistency
	}
	return http.MethodGet, "/v1/kv/" + key, nil
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// buildCommit builds a commit of the repository at root, with its own Makefile,
// in a worktree that remove takes away again.
func buildCommit(ctx context.Context, root, commit string) (bin string, remove func(), err error) {
	tmp, err := os.MkdirTemp("", "muster-base-")
	if err != nil {
		return "", nil, err
	}
	tree := filepath.Join(tmp, "tree")
	remove = func() {
		err := say(context.Background(), root, "git", "worktree", "remove", "--force", tree) // after a signal, too
		if err = errors.Join(err, os.RemoveAll(tmp)); err != nil {
			fmt.Fprintf(os.Stderr, "left behind: %v ('git worktree prune' forgets it)\n", err)
		}
	}
	if err := say(ctx, root, "git", "worktree", "add", "--quiet", "--detach", tree, commit); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(tmp))
	}
	if err := say(ctx, tree, "make", "build"); err != nil {
		remove()
		return "", nil, fmt.Errorf("build %s: %w", commit, err)
	}
	return filepath.Join(tree, "bin"), remove, nil
}

// say runs a command and gives its output in the error.
func say(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that all of it ends
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return nil
}
