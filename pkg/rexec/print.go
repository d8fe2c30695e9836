package rexec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// Text shows a job to people, with the texts of the reference where there are some.
type Text struct {
	Out, Err io.Writer
	Progress bool // keep a progress line on Err
	Verbose  bool
	Level    slog.Level // the lowest that Log shows

	total   int
	states  map[string]string         // by node
	partial map[string][]byte         // by node and stream: a line without its end
	drawn   bool                      // the progress line is on the screen
	ended   map[string]api.ExecTarget // by node
	order   []string                  // of the targets
}

// Began implements Show.
func (p *Text) Began(id string, targets []string) {
	p.total, p.order = len(targets), targets
	p.states, p.ended, p.partial = map[string]string{}, map[string]api.ExecTarget{}, map[string][]byte{}
	if p.Verbose {
		p.printf("Created remote execution job: %s\n", id)
	}
	p.drawProgress()
}

// Output implements Show.
func (p *Text) Output(node string, stream int, data []byte) {
	key := fmt.Sprint(stream, node)
	data = append(p.partial[key], data...)
	for {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			break
		}
		p.line(node, stream, line)
		data = rest
	}
	p.partial[key] = bytes.Clone(data)
	p.drawProgress()
}

func (p *Text) line(node string, stream int, line []byte) {
	p.clearProgress()
	to := p.Out
	if stream == api.ExecStderr {
		to = p.Err
	}
	_, _ = fmt.Fprintf(to, "    %s: %s\n", node, bytes.TrimSuffix(line, []byte("\r")))
}

// Target implements Show.
func (p *Text) Target(t api.ExecTarget) {
	for _, stream := range []int{api.ExecStdout, api.ExecStderr} {
		if key := fmt.Sprint(stream, t.Node); api.ExecFinal(t.State) && len(p.partial[key]) > 0 {
			p.line(t.Node, stream, p.partial[key])
			delete(p.partial, key)
		}
	}
	p.states[t.Node] = t.State
	switch {
	case t.State == api.ExecRunning:
		if p.Verbose {
			p.printf("==> %s: acknowledged\n", t.Node)
		}
	case !api.ExecFinal(t.State), t.State == api.ExecSkipped:
	default:
		p.printf("==> %s: %s\n", t.Node, ending(t))
	}
	if api.ExecFinal(t.State) {
		p.ended[t.Node] = t
	}
	p.drawProgress()
}

// ending describes how a target ended.
func ending(t api.ExecTarget) string {
	var out string
	switch t.State {
	case api.ExecOK:
		out = "finished with exit code 0"
	case api.ExecFailed:
		out = fmt.Sprintf("finished with exit code %d", t.Code)
	case api.ExecTimeout:
		out = "timeout: it was killed"
	case api.ExecStopped:
		out = "stopped: it was killed"
	default:
		out = t.State
	}
	if t.Error != "" {
		out += ": " + t.Error
	}
	if t.Truncated {
		out += " (output was cut)"
	}
	return out
}

// Log implements Show.
func (p *Text) Log(level slog.Level, text string) {
	if level >= p.Level {
		p.clearProgress()
		_, _ = fmt.Fprintf(p.Err, "exec: %s\n", text)
	}
}

func (p *Text) printf(format string, args ...any) {
	p.clearProgress()
	_, _ = fmt.Fprintf(p.Out, format, args...)
}

// drawProgress writes the progress line, clearProgress removes it.
func (p *Text) drawProgress() {
	if !p.Progress {
		return
	}
	done, bad, running := 0, 0, 0
	for _, state := range p.states {
		switch {
		case state == api.ExecRunning:
			running++
		case api.ExecFinal(state):
			done++
			if state != api.ExecOK {
				bad++
			}
		}
	}
	_, _ = fmt.Fprintf(p.Err, "\r\x1b[K%d of %d done, %d not ok, %d running", done, p.total, bad, running)
	p.drawn = true
}

func (p *Text) clearProgress() {
	if p.drawn {
		_, _ = io.WriteString(p.Err, "\r\x1b[K")
		p.drawn = false
	}
}

// End shows the summary.
func (p *Text) End(r Result, took time.Duration) {
	p.clearProgress()
	if r.Total == 0 {
		return
	}
	width := 0
	for _, node := range p.order {
		width = max(width, len(node))
	}
	for _, node := range p.order {
		if t, ok := p.ended[node]; ok && t.State != api.ExecOK {
			p.printf("%-8s %-*s  %s\n", t.State, width, t.Node, reason(t))
		}
	}
	p.printf("%d / %d node(s) completed\n", r.States[api.ExecOK]+r.States[api.ExecFailed], r.Total)
	p.printf("%s\n", r.String())
	if p.Verbose {
		p.printf("Completed in %0.2f seconds\n", took.Seconds())
	}
}

func reason(t api.ExecTarget) string {
	switch {
	case t.Error != "":
		return t.Error
	case t.State == api.ExecFailed:
		return fmt.Sprintf("exit code %d", t.Code)
	}
	return "-"
}

// String is the result in one line: always the counts of ok, failed, timeout and
// lost, and those of the other states that occur.
func (r Result) String() string {
	out := []string{}
	for _, state := range []string{
		api.ExecOK, api.ExecFailed, api.ExecTimeout, api.ExecLost,
		api.ExecRefused, api.ExecStopped, api.ExecSkipped, api.ExecRunning, api.ExecCalled, api.ExecWaiting,
	} {
		if n := r.States[state]; n > 0 || len(out) < 4 {
			out = append(out, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := strings.Join(out, ", ")
	if r.Stopped != "" {
		text += "; " + r.Stopped
	}
	return text
}

// JSONLines shows a job to programs, as one JSON value a line.
type JSONLines struct {
	Out, Err io.Writer
	Level    slog.Level // the lowest that Log shows
}

func (p *JSONLines) write(v map[string]any) { _ = json.NewEncoder(p.Out).Encode(v) }

// Began implements Show.
func (p *JSONLines) Began(id string, targets []string) {
	p.write(map[string]any{"Type": "job", "ID": id, "Targets": targets})
}

// Output implements Show.
func (p *JSONLines) Output(node string, stream int, data []byte) {
	name := "stdout"
	if stream == api.ExecStderr {
		name = "stderr"
	}
	p.write(map[string]any{"Type": "output", "Node": node, "Stream": name, "Data": string(data)})
}

// Target implements Show.
func (p *JSONLines) Target(t api.ExecTarget) {
	p.write(map[string]any{"Type": "target", "Node": t.Node, "State": t.State, "Code": t.Code, "Error": t.Error, "Truncated": t.Truncated})
}

// Log implements Show.
func (p *JSONLines) Log(level slog.Level, text string) {
	if level >= p.Level {
		_, _ = fmt.Fprintf(p.Err, "exec: %s\n", text)
	}
}

// End shows the summary.
func (p *JSONLines) End(r Result, took time.Duration) {
	p.write(map[string]any{"Type": "end", "ID": r.ID, "Total": r.Total, "States": r.States, "Stopped": r.Stopped, "OK": r.OK(), "Seconds": took.Seconds()})
}
