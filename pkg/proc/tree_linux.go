package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownExecutable also works after the file was replaced or deleted.
func ownExecutable() (string, error) { return "/proc/self/exe", nil }

// adoptOrphans makes us the parent of what our descendants orphan.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// childAttr gives the child a process group of its own, and death with the
// guard, for when supervisor and guard are killed together.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// descendants lists the processes below pid.
func descendants(pid int) []int {
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if files == nil {
		if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children"); err != nil {
			return descendantsByStat(pid) // a kernel without that list
		}
	}
	var all []int
	for _, file := range files {
		data, _ := os.ReadFile(file) // gone meanwhile: its children are our own now
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
				all = append(all, descendants(child)...)
			}
		}
	}
	return all
}

func descendantsByStat(root int) []int {
	children := map[int][]int{}
	for _, p := range processes() {
		children[p.parent] = append(children[p.parent], p.pid)
	}
	var all []int
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// sweep kills what a guard ran that was itself killed: what is in its session,
// or carries its token.
func sweep(_, session int, token string) {
	mark := []byte(guardEnv + "=" + token + "\x00")
	for give := time.Now().Add(killTime); time.Now().Before(give); time.Sleep(5 * time.Millisecond) {
		found := false
		for _, p := range processes() {
			if p.zombie {
				continue
			}
			if p.session != session {
				env, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ")
				if !bytes.Contains(env, mark) {
					continue
				}
			}
			found = true
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil) // ours only if we are the init here
		}
		if !found {
			return
		}
	}
}

type process struct {
	pid, parent, session int
	zombie               bool
}

// processes lists all that are visible.
func processes() []process {
	entries, _ := os.ReadDir("/proc")
	var all []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		if p, ok := parseStat(pid, string(data)); ok {
			all = append(all, p)
		}
	}
	return all
}

// parseStat reads "pid (name) state ppid pgrp session ...": the name may hold
// anything, so the fields count from its last parenthesis.
func parseStat(pid int, stat string) (process, bool) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 4 {
		return process{}, false
	}
	parent, err1 := strconv.Atoi(fields[1])
	session, err2 := strconv.Atoi(fields[3])
	return process{pid: pid, parent: parent, session: session, zombie: fields[0] == "Z" || fields[0] == "X"}, err1 == nil && err2 == nil
}
