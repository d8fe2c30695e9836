package handlers

import (
	"bytes"
	"os/user"
	"path/filepath"
	"testing"
)

func TestPrinter(t *testing.T) {
	in := Input{Data: []byte(`{"Key":"a","Value":null}` + "\n")}
	for indent, want := range map[bool]string{false: string(in.Data), true: "{\n    \"Key\": \"a\",\n    \"Value\": null\n}\n"} {
		var out bytes.Buffer
		if err := (Printer{Out: &out, Indent: indent}).Handle(t.Context(), in); err != nil || out.String() != want {
			t.Errorf("indent %v: %q, %v", indent, &out, err)
		}
	}
	var out bytes.Buffer
	if err := (Printer{Out: &out, Indent: true}).Handle(t.Context(), Input{Data: []byte("{")}); err == nil || out.Len() > 0 {
		t.Errorf("half a result: %q, %v", &out, err)
	}
}

func TestStateDir(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ state, home, want string }{
		{"/s", "/h", "/s/muster/watch"},
		{"", "/h", "/h/.local/state/muster/watch"},
		{"", "", filepath.Join(me.HomeDir, ".local/state/muster/watch")},
	} {
		t.Setenv("XDG_STATE_HOME", c.state)
		t.Setenv("HOME", c.home)
		if got, err := StateDir(); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
