package guard

import (
	"io"
	"syscall"
)

// Order is the order to start a child.
type Order struct {
	Path      string
	Dir       string // "" is the guard's
	Argv, Env []string
	Deadline  Deadline
	Leave     bool // what it leaves when it ends by itself lives on

	// Terminal: the guard is in the session of a terminal; its stops are told, and with
	// Foreground it begins as the terminal's foreground.
	Terminal, Foreground bool

	files  [3]uintptr // stdin, stdout and stderr, as the guard got them
	passed bool       // they came with the order; else they are the guard's own
}

// maxOrder bounds what a guard takes in one order, in bytes. Linux takes a quarter of
// the stack's limit for arguments and environment: 2 MiB, usually.
const maxOrder = 64 << 20

// maxLine is longer than any line.
const maxLine = 4096

// String is the form in which a guard reads it: the number of the bytes that follow the
// line, of the arguments among the texts in them, the deadline, and Leave, Terminal and
// Foreground, a digit each. The child's three
// files are sent with its first byte (SCM_RIGHTS).
func (o Order) String() string {
	var body []byte
	for _, list := range [][]string{{o.Path, o.Dir}, o.Argv, o.Env} {
		for _, text := range list {
			body = append(append(body, text...), 0)
		}
	}
	flags := ""
	for _, yes := range []bool{o.Leave, o.Terminal, o.Foreground} {
		if yes {
			flags += "1"
		} else {
			flags += "0"
		}
	}
	return doStart + " " + itoa(len(body)) + " " + itoa(len(o.Argv)) + " " + o.Deadline.String() + " " + flags + "\n" + string(body)
}

// readOrder takes what stands behind doStart, and reads the rest.
func readOrder(head string, r io.Reader) (o Order, ok bool) {
	f := split(head, ' ')
	if len(f) != 4 {
		return Order{}, false
	}
	n, ok1 := atoi(f[0])
	argc, ok2 := atoi(f[1])
	d, ok3 := parseDeadline(f[2])
	flags := f[3]
	if !ok1 || !ok2 || !ok3 || n < 1 || n > maxOrder || len(flags) != 3 {
		return Order{}, false
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil || body[n-1] != 0 {
		return Order{}, false
	}
	texts := split(string(body[:n-1]), 0)
	if argc < 1 || argc > len(texts)-2 {
		return Order{}, false
	}
	return Order{
		Path: texts[0], Dir: texts[1], Argv: texts[2 : 2+argc], Env: texts[2+argc:],
		Deadline: d, Leave: flags[0] == '1', Terminal: flags[1] == '1', Foreground: flags[2] == '1', files: [3]uintptr{0, 1, 2},
	}, true
}

func (o Order) closeFiles() {
	if o.passed {
		for _, fd := range o.files {
			_ = syscall.Close(int(fd))
		}
	}
}

// order is one, as it was read.
type order struct {
	word, rest string
	start      Order
}

// readOrders closes orders when the supervisor's end of the socket is closed, or says
// what cannot be.
func readOrders(orders chan<- order) {
	defer close(orders)
	from := &control{}
	for {
		line, err := from.line()
		if err != nil {
			return
		}
		var o order
		o.word, o.rest = cut(line, ' ')
		if o.word == doStart {
			var ok bool
			if o.start, ok = readOrder(o.rest, from); !ok {
				return
			}
			o.start.passed = from.take(&o.start.files)
		}
		orders <- o
	}
}

// control reads the socket, and keeps the files that come with the bytes.
type control struct {
	ahead []byte // read, but not asked for yet
	files []int
}

// line reads a line, without its end.
func (c *control) line() (string, error) {
	for from := 0; ; {
		for i := from; i < len(c.ahead); i++ {
			if c.ahead[i] == '\n' {
				line := string(c.ahead[:i])
				c.ahead = c.ahead[i+1:]
				return line, nil
			}
		}
		from = len(c.ahead)
		if from > maxLine {
			return "", io.ErrShortBuffer
		}
		buf := make([]byte, 4096)
		n, err := c.receive(buf)
		if err != nil {
			return "", err
		}
		c.ahead = append(c.ahead, buf[:n]...)
	}
}

func (c *control) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.receive(p)
}

func (c *control) receive(p []byte) (int, error) {
	for {
		rights := make([]byte, syscall.CmsgSpace(3*4))
		n, got, _, _, err := syscall.Recvmsg(ControlFD, p, rights, 0)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		}
		c.keep(rights[:got])
		if n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}
}

// keep takes files in. No child is started while they could leak into it: one is
// only once its order is complete.
func (c *control) keep(rights []byte) {
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
		}
		c.files = append(c.files, fds...)
	}
}

// take gives the three files of an order that has been read; it says whether they came.
func (c *control) take(files *[3]uintptr) bool {
	if len(c.files) < 3 {
		return false
	}
	for i, fd := range c.files[:3] {
		files[i] = uintptr(fd)
	}
	c.files = c.files[3:]
	return true
}
