package option

import (
	"fmt"
	"slices"
	"strings"
)

// Output is -o, the format of what a command prints; to holds the default. The
// reference's spellings mean the same: -format, of which "pretty" is text, and -json.
func Output(to *string, formats ...string) []Option {
	o := &output{to, formats}
	out := []Option{{Flag: "o", Also: "format", To: o, Help: "`format`: " + oneOf(formats)}}
	if slices.Contains(formats, "json") && *to != "json" {
		out = append(out, Option{Flag: "json", To: (*jsonOutput)(o), Bare: "true", Rare: true, Help: "same as -o json"})
	}
	return out
}

func oneOf(formats []string) string {
	last := len(formats) - 1
	return strings.Join(formats[:last], ", ") + " or " + formats[last]
}

// output is the value of -o.
type output struct {
	to      *string
	formats []string
}

func (o *output) String() string { return *o.to }
func (o *output) Type() string   { return "format" }

func (o *output) Set(s string) error {
	if s == "pretty" {
		s = "text"
	}
	if !slices.Contains(o.formats, s) {
		return fmt.Errorf("want %s", oneOf(o.formats))
	}
	*o.to = s
	return nil
}

// jsonOutput is the value of -json.
type jsonOutput output

func (o *jsonOutput) String() string { return "" }
func (o *jsonOutput) Type() string   { return "bool" }

func (o *jsonOutput) Set(s string) error {
	if s == "true" {
		*o.to = "json"
	}
	return nil
}
