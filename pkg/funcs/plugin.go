package funcs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/proc"
)

const (
	pluginTimeout   = 30 * time.Second
	pluginMaxOutput = 16 << 20 // bytes
	pluginMaxStderr = 4 << 10
)

// plugin runs a program and returns its output. It does nothing once the pass is
// incomplete: a program that acts on its input must never get the empty value of an
// answer that is missing.
func (p *pass) plugin(name string, args ...any) (string, error) {
	if name == "" {
		return "", nil
	}
	argv := []string{name}
	for i, arg := range args {
		if arg == nil { // it would be run with the text <nil>
			return "", fmt.Errorf("plugin %s: argument %d has no value", name, i+1)
		}
		argv = append(argv, fmt.Sprint(arg))
	}
	if !p.complete {
		return "", nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("plugin %s: %w", name, err)
	}
	defer read.Close()
	stderrHead := make(chan []byte, 1)
	go func() {
		head, _ := io.ReadAll(io.LimitReader(read, pluginMaxStderr))
		stderrHead <- head
		_, _ = io.Copy(io.Discard, read)
	}()
	res, err := proc.Command{
		Argv: argv, Stderr: write, Timeout: pluginTimeout, MaxOutput: pluginMaxOutput,
	}.Run(p.ctx)
	// A process that the plugin started may still hold the pipe: stop reading it.
	write.Close()
	_ = read.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	stderr := strings.TrimSpace(string(<-stderrHead))
	switch {
	case err != nil:
		return "", fmt.Errorf("plugin %s: %w%s", name, err, withStderr(stderr))
	case res.Code != 0:
		return "", fmt.Errorf("plugin %s: exit code %d%s", name, res.Code, withStderr(stderr))
	case res.Total > int64(len(res.Output)):
		return "", fmt.Errorf("plugin %s: printed %d bytes, more than the limit of %d", name, res.Total, pluginMaxOutput)
	}
	return string(bytes.TrimSpace(res.Output)), nil
}

func withStderr(stderr string) string {
	if stderr == "" {
		return ""
	}
	return ": " + stderr
}
