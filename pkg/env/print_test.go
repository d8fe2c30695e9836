package env

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

// values are what is hard to quote.
var values = []string{
	"", "plain", "two words", "it's", `"quoted"`, `back\slash`, `\`, "$HOME ${HOME} $(id) `id`", "line\nline\n", "\n", "#no comment",
	" spaces ", "tab\there", "é€😀", "a=b", "!history!", "*?[a]", "-n", `'`, `'"'"'`, "~", "\r\n", "trailing\\\n", `\n is no newline`, "%s",
}

// bySh runs a script and gives the value that NAME has then.
func bySh(t testing.TB, script, name string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", script+"\nprintf '%s.' \"$"+name+"\"")
	cmd.Env = []string{"HOME=/expanded"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, script)
	}
	return strings.TrimSuffix(string(out), ".")
}

func print1(t testing.TB, value string, o Output) string {
	t.Helper()
	text, err := Print([]Var{{Name: "A_1", Value: value, From: "k"}}, o)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestShellGivesBackEveryValue(t *testing.T) {
	for _, v := range values {
		text := print1(t, v, Shell)
		if got := bySh(t, text, "A_1"); got != v {
			t.Errorf("%q: sh has %q of %s", v, got, text)
		}
		if got := bySh(t, text+"\nA_1=x sh -c 'exit'\nA_1=$(sh -c 'printf \"%s.\" \"$A_1\"'); A_1=${A_1%.}", "A_1"); got != v {
			t.Errorf("%q: a child of sh has %q", v, got)
		}
	}
}

// systemd's double quotes are those of a shell: these four are escaped, lines stay.
func TestSystemdGivesBackEveryValue(t *testing.T) {
	for _, v := range values {
		if strings.Contains(v, "\r") {
			continue
		}
		text := print1(t, v, Systemd)
		if got := bySh(t, text, "A_1"); got != v {
			t.Errorf("%q: read as %q of %s", v, got, text)
		}
		if got := readSystemd(text); got != v {
			t.Errorf("%q: systemd reads %q of %s", v, got, text)
		}
	}
}

// readSystemd reads a double-quoted value as systemd.exec(5) says.
func readSystemd(text string) string {
	text = strings.TrimSuffix(strings.TrimPrefix(text, `A_1="`), "\"\n")
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch {
		case strings.IndexByte("\"\\`$", text[i]) >= 0:
			b.WriteByte(text[i])
		case text[i] == '\n': // the line goes on
		default:
			b.WriteString(`\` + text[i:i+1])
		}
	}
	return b.String()
}

// Single quotes are a shell's too; only a value that holds one needs the escapes that
// readers of that form know.
func TestDotenv(t *testing.T) {
	for _, v := range values {
		if strings.Contains(v, "'") {
			continue
		}
		text := print1(t, v, Dotenv)
		if got := bySh(t, text, "A_1"); got != v {
			t.Errorf("%q: sh has %q of %s", v, got, text)
		}
	}
	if got, want := print1(t, "it's \"$5\"\n\\", Dotenv), `A_1="it's \"\$5\"\n\\"`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestJSONAndNull(t *testing.T) {
	vars := []Var{{Name: "a", Value: "<&>\n"}, {Name: "b/c", Value: "x"}}
	text, err := Print(vars, JSON)
	var back map[string]string
	if err != nil || json.Unmarshal(text, &back) != nil || len(back) != 2 || back["a"] != "<&>\n" || !bytes.Contains(text, []byte("<&>")) {
		t.Errorf("%s, %v", text, err)
	}
	text, err = Print(vars, Null)
	if err != nil || string(text) != "a=<&>\n\x00b/c=x\x00" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err = Print(nil, JSON); string(text) != "{}\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestPrintSaysWhatAFormCannotHold(t *testing.T) {
	for _, tt := range []struct {
		v Var
		o Output
	}{
		{Var{Name: "a/b"}, Shell}, {Var{Name: "1a"}, Dotenv}, {Var{Name: ""}, Systemd},
		{Var{Name: "a", Value: "\x01"}, Systemd}, {Var{Name: "a", Value: "\xff"}, Systemd}, {Var{Name: "a", Value: "\xff"}, JSON},
		{Var{Name: "a", Value: "'\r"}, Dotenv},
	} {
		tt.v.From = "app/key"
		if text, err := Print([]Var{tt.v}, tt.o); err == nil || !strings.Contains(err.Error(), "app/key") {
			t.Errorf("%+v as %s: %q, %v", tt.v, tt.o, text, err)
		}
	}
	if _, err := ParseOutput("xml"); err == nil {
		t.Error("xml is a form")
	}
}

// Every value that is printed for a shell is what a real one has then.
func FuzzShell(f *testing.F) {
	for _, v := range values {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if strings.Contains(v, "\x00") || len(v) > 1000 {
			return
		}
		if got := bySh(t, print1(t, v, Shell), "A_1"); got != v {
			t.Errorf("%q: sh has %q", v, got)
		}
		if text, err := Print([]Var{{Name: "A_1", Value: v}}, Systemd); err == nil && utf8.ValidString(v) {
			if got := readSystemd(string(text)); got != v {
				t.Errorf("%q: systemd has %q", v, got)
			}
		}
	})
}
