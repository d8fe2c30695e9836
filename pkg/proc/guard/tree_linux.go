package guard

import (
	"os"
	"syscall"
)

const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER

// adoptOrphans makes us the parent of what our descendants orphan.
func adoptOrphans() error {
	if _, _, err := syscall.RawSyscall6(syscall.SYS_PRCTL, setChildSubreaper, 1, 0, 0, 0, 0); err != 0 {
		return err
	}
	return nil
}

// childAttr gives the child a process group of its own, and death with the
// guard, for when supervisor and guard are killed together.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// descendants lists the processes below pid.
func descendants(pid int) []int {
	tasks := "/proc/" + itoa(pid) + "/task/"
	if _, err := os.Stat("/proc/self/task/" + itoa(os.Getpid()) + "/children"); err != nil {
		return descendantsByStat(pid) // a kernel without that list
	}
	threads, _ := os.ReadDir(tasks) // gone meanwhile: its children are our own now
	var all []int
	for _, thread := range threads {
		data, _ := os.ReadFile(tasks + thread.Name() + "/children")
		for _, field := range split(string(data), ' ') {
			if child, ok := atoi(field); ok {
				all = append(all, child)
				all = append(all, descendants(child)...)
			}
		}
	}
	return all
}

func descendantsByStat(root int) []int {
	children := map[int][]int{}
	for _, p := range Processes() {
		children[p.parent] = append(children[p.parent], p.PID)
	}
	var all []int
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// Process is what there is to know of one.
type Process struct {
	PID, Session int
	Zombie       bool
	parent       int
}

// Processes lists all that are visible.
func Processes() []Process {
	entries, _ := os.ReadDir("/proc")
	var all []Process
	for _, entry := range entries {
		pid, ok := atoi(entry.Name())
		if !ok {
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
func parseStat(pid int, stat string) (Process, bool) {
	end := len(stat) - 1
	for end >= 0 && stat[end] != ')' {
		end--
	}
	fields := split(stat[end+1:], ' ')
	if len(fields) < 5 || fields[0] != "" {
		return Process{}, false
	}
	parent, ok1 := atoi(fields[2])
	session, ok2 := atoi(fields[4])
	return Process{PID: pid, Session: session, Zombie: fields[1] == "Z" || fields[1] == "X", parent: parent}, ok1 && ok2
}
