package funcs

import (
	"fmt"
	"regexp"

	"github.com/davecgh/go-spew/spew"
)

// spewConfig is go-spew as consul-template uses it, but without addresses and with maps in
// order: the same data must give the same text in every pass.
func spewConfig() *spew.ConfigState {
	return &spew.ConfigState{Indent: " ", MaxDepth: 12, DisablePointerAddresses: true, SortKeys: true, SpewKeys: true}
}

func (p *pass) spewDump(values ...any) string {
	spewConfig().Fdump(p.opts.Stdout, values...)
	return ""
}

func (p *pass) spewPrintf(format string, values ...any) (string, error) {
	_, err := fmt.Fprint(p.opts.Stdout, spewSprintf(format, values...))
	return "", err
}

func spewSdump(values ...any) string { return spewConfig().Sdump(values...) }

// address is how %+v shows the address of what it follows, whatever is configured.
var address = regexp.MustCompile(`([>)])\(0x[0-9a-f]+(?:->0x[0-9a-f]+)*\)`)

func spewSprintf(format string, values ...any) string {
	return address.ReplaceAllString(spewConfig().Sprintf(format, values...), "$1")
}
