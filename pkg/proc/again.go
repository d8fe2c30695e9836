package proc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// again is the order to start another child.
type again struct {
	path      string
	argv, env []string
}

// maxAgain bounds what a guard takes in one order, in bytes. Linux takes a quarter of
// the stack's limit for arguments and environment: 2 MiB, usually.
const maxAgain = 64 << 20

// String is the form in which a guard reads it: the number of the bytes that follow the
// line, and of the arguments among the texts in them.
func (a again) String() string {
	var body strings.Builder
	for _, list := range [][]string{{a.path}, a.argv, a.env} {
		for _, text := range list {
			body.WriteString(text + "\x00")
		}
	}
	return fmt.Sprintf("%s %d %d\n%s", doAgain, body.Len(), len(a.argv), body.String())
}

// readAgain takes what stands behind doAgain, and reads the rest.
func readAgain(head string, r io.Reader) (a again, ok bool) {
	size, args, _ := strings.Cut(head, " ")
	n, err1 := strconv.Atoi(size)
	argc, err2 := strconv.Atoi(args)
	if err1 != nil || err2 != nil || n < 0 || n > maxAgain {
		return again{}, false
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return again{}, false
	}
	texts := strings.Split(strings.TrimSuffix(string(body), "\x00"), "\x00")
	if argc < 1 || len(texts) < 1+argc {
		return again{}, false
	}
	return again{texts[0], texts[1 : 1+argc], texts[1+argc:]}, true
}

// order is one, as it was read.
type order struct {
	word, rest string
	again      again
}

// readOrders closes orders when the supervisor's end of the pipe is closed, or says
// what cannot be.
func readOrders(orders chan<- order) {
	defer close(orders)
	r := bufio.NewReader(os.NewFile(guardControl, "control"))
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		var o order
		o.word, o.rest, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if o.word == doAgain {
			var ok bool
			if o.again, ok = readAgain(o.rest, r); !ok {
				return
			}
		}
		orders <- o
	}
}

// start starts a child; false: it could not be, and the supervisor knows why.
func (g *guard) start(a again) bool {
	pid, err := syscall.ForkExec(a.path, a.argv, &syscall.ProcAttr{
		Env: a.env, Files: []uintptr{0, 1, 2}, Sys: childAttr(),
	})
	if err != nil {
		g.say("%s %v", sayError, &os.PathError{Op: "fork/exec", Path: a.path, Err: err})
		return false
	}
	g.child, g.code, g.termed = pid, 0, false
	g.say("%s %d", sayStarted, pid)
	return true
}

// wait waits for the next child while there is none; false: there will be none.
func (g *guard) wait(orders <-chan order, ended, others <-chan os.Signal) bool {
	for {
		select {
		case <-ended:
			g.reap()
		case <-others: // nobody's
		case o, ok := <-orders:
			if !ok {
				return false
			}
			if o.word == doAgain && g.start(o.again) {
				return true
			}
		}
	}
}
