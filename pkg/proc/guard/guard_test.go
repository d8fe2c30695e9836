package guard

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What this package imports is set up before every guard begins: nothing but what
// os/signal needs itself.
func TestGuardBeginsEarly(t *testing.T) {
	theirs := append(deps(t, "os/signal"), "os/signal")
	for _, dep := range deps(t, ".") {
		if !slices.Contains(theirs, dep) && !strings.HasSuffix(dep, "/pkg/proc/guard") {
			t.Errorf("it imports %s", dep)
		}
	}
}

func deps(t *testing.T, of string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", of)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestText(t *testing.T) {
	for s, want := range map[string]int{"0": 0, "7": 7, "-12": -12, "9223372036854775807": 1<<63 - 1} {
		if n, ok := atoi(s); n != want || !ok || itoa(want) != s {
			t.Errorf("%s: %d, %v, %s", s, n, ok, itoa(want))
		}
	}
	for _, s := range []string{"", "-", "x", "1 ", "1x", "9223372036854775808", "99999999999999999999999"} {
		if n, ok := atoi(s); ok {
			t.Errorf("%q is %d", s, n)
		}
	}
	if head, rest := cut("a b c", ' '); head != "a" || rest != "b c" {
		t.Error(head, rest)
	}
	if got := split(" a  b", ' '); !slices.Equal(got, []string{"", "a", "", "b"}) {
		t.Errorf("%q", got)
	}
	if got := oneLine("a\nb\n"); got != "a b " {
		t.Errorf("%q", got)
	}
}
