package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file of services alone is no configuration, but its services can be read.
func TestReadServices(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.json": `{"service": {"name": "a", "check": {"ttl": "10s"}}, "check": {"name": "other", "ttl": "1s"}}`,
		"b.hcl":  "services { id = \"b1\" }\nservices { name = \"c\" }\n",
		"c.txt":  "skipped",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	services, warnings, err := ReadServices([]string{dir})
	if err != nil || len(services) != 3 || len(warnings) != 1 || !strings.Contains(warnings[0], "c.txt") {
		t.Fatalf("%v, %q, %v", services, warnings, err)
	}
	if s := services[0]; s.Name != "a" || s.Check == nil || s.Check.TTL.String() != "10s" {
		t.Errorf("first service is %+v", s)
	}
	if services[1].ID != "b1" || services[1].Name != "" || services[2].Name != "c" {
		t.Errorf("the others are %+v, %+v", services[1], services[2])
	}
	if _, _, err := ReadServices([]string{filepath.Join(dir, "c.txt")}); err == nil || !strings.Contains(err.Error(), "unknown extension") {
		t.Errorf("error %v", err)
	}
}
