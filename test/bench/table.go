package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// String is the result in a line, for who watches.
func (r result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s: %s %s", r.Round, r.Label, r.Bench, r.Params)
	for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
		fmt.Fprintf(&b, "  %s=%g", name, r.Figures[name])
	}
	return b.String()
}

// table prints a line for each figure: for each column its median, how far the
// rounds lie apart, and the ratio to the first column.
func table(out io.Writer, columns []*column, results []result) error {
	type row struct{ measurement, figure string }
	var rows []row
	values := map[row]map[string][]float64{}
	for _, r := range results {
		for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
			at := row{strings.TrimSpace(r.Bench + " " + r.Params), name}
			if values[at] == nil {
				values[at] = map[string][]float64{}
				rows = append(rows, at)
			}
			values[at][r.Label] = append(values[at][r.Label], r.Figures[name])
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "measurement\tfigure")
	for _, c := range columns {
		fmt.Fprint(w, "\t", c.name)
	}
	last := ""
	for _, at := range rows {
		name := at.measurement
		if name == last {
			name = ""
		}
		last = at.measurement
		fmt.Fprintf(w, "\n%s\t%s", name, at.figure)
		for i, c := range columns {
			fmt.Fprint(w, "\t", cell(values[at][c.name], median(values[at][columns[0].name]), i > 0))
		}
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func cell(v []float64, first float64, ratio bool) string {
	if len(v) == 0 {
		return "-"
	}
	m := median(v)
	text := fmt.Sprint(round(m))
	if len(v) > 1 && m != 0 {
		text += fmt.Sprintf(" (%.0f%%)", (slices.Max(v)-slices.Min(v))/m*100)
	}
	if ratio && first != 0 {
		text += fmt.Sprintf(" x%.2f", m/first)
	}
	return text
}

// median is 0 of nothing.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// round keeps four digits, or all before the point.
func round(v float64) float64 {
	if v == 0 {
		return 0
	}
	scale := math.Pow(10, max(0, 3-math.Floor(math.Log10(math.Abs(v)))))
	return math.Round(v*scale) / scale
}

func (f figures) rounded() figures {
	for name, v := range f {
		f[name] = round(v)
	}
	return f
}
