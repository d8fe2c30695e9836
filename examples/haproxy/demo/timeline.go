package main

import (
	"fmt"
	"io"
	"time"
)

// timeline prints what happens, with the seconds since the start.
type timeline struct {
	w     io.Writer
	start time.Time
}

func newTimeline(w io.Writer) *timeline { return &timeline{w, time.Now()} }

func (t *timeline) say(format string, args ...any) { t.print("", format, args...) }

func (t *timeline) step(text string) {
	fmt.Fprintln(t.w)
	t.print("* ", "%s", text)
}

func (t *timeline) result(format string, args ...any) { t.print("    ", format, args...) }

func (t *timeline) print(indent, format string, args ...any) {
	fmt.Fprintf(t.w, "%6.2f s  %s%s\n", time.Since(t.start).Seconds(), indent, fmt.Sprintf(format, args...))
}
