package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/test/harness"
)

// watched is one agent with a watch of each type, and what they were told.
type watched struct {
	*agent
	dir   string // of its configuration
	out   string // a line for each run of a handler: a word, the index, the data
	posts struct {
		sync.Mutex
		bodies []string
	}
}

func startWatched(t *testing.T) *watched {
	c := harness.New(t)
	w := &watched{dir: filepath.Join(c.Dir, "conf.d"), out: filepath.Join(c.Dir, "out")}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body json.RawMessage
		err := json.NewDecoder(r.Body).Decode(&body)
		w.posts.Lock()
		defer w.posts.Unlock()
		w.posts.bodies = append(w.posts.bodies, fmt.Sprint(r.Header.Get("X-Consul-Index"), " ", r.Header.Get("X-Who"), " ", string(body), err))
	}))
	t.Cleanup(server.Close)
	writeFile(t, w.dir+"/web.json", `{"service": {"name": "web", "port": 80, "check": {"id": "web", "ttl": "1h"}}}`)
	writeFile(t, w.dir+"/watches.json", `{"watches": [`+strings.Join([]string{
		w.entry("key", `"key": "app/a"`), w.entry("keyprefix", `"prefix": "app/"`), w.entry("services", ``), w.entry("nodes", ``),
		w.entry("service", `"service": "web", "passingonly": true`), w.entry("checks", `"service": "web"`), w.entry("event", `"name": "go"`),
		fmt.Sprintf(`{"type": "key", "key": "app/b", "handler": "echo old $CONSUL_INDEX $(cat) >> %s"}`, w.out),
		fmt.Sprintf(`{"type": "key", "key": "app/c", "handler_type": "http", "http_handler_config": {"path": "%s", "header": {"x-who": ["me"]}}}`, server.URL),
	}, ",")+`]}`)
	w.agent = c.Add("s1", true, "-bootstrap-expect=1", "-config-dir="+w.dir, "-hcl=enable_debug = true")
	serves(w.agent)
	return w
}

// entry is a watch whose handler writes down the type, the index and the data.
func (w *watched) entry(kind, params string) string {
	if params != "" {
		params = ", " + params
	}
	return fmt.Sprintf(`{"type": %q%s, "args": ["sh", "-c", "echo %s $CONSUL_INDEX $(cat) >> %s"]}`, kind, params, kind, w.out)
}

func (w *watched) told() string {
	data, _ := os.ReadFile(w.out)
	w.posts.Lock()
	defer w.posts.Unlock()
	return string(data) + strings.Join(w.posts.bodies, "\n")
}

func (w *watched) awaitTold(t *testing.T, what string) {
	t.Helper()
	re := regexp.MustCompile("(?m)" + what)
	harness.Within(t, 20*time.Second, what, func(context.Context) error {
		if told := w.told(); !re.MatchString(told) {
			return errors.New(told)
		}
		return nil
	})
}

// counts are the agent's goroutines and open files.
func (w *watched) counts(t *testing.T) (goroutines, files int) {
	t.Helper()
	text := ask(w.agent, "GET", "/debug/pprof/goroutine?debug=1", "").body
	m := regexp.MustCompile(`total (\d+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no profile: %.200s", text)
	}
	goroutines, _ = strconv.Atoi(m[1])
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.Process().Pid()))
	if err != nil {
		t.Fatal(err)
	}
	return goroutines, len(entries)
}

// Watches of the agent: each is delivered once when it is new, a reload of anything
// else runs none of them and leaves nothing behind, neither does a restart, and
// changes get through after all that.
func TestWatches(t *testing.T) {
	w := startWatched(t)
	w.PutKey("app/c", "x")
	for _, line := range []string{
		`^key \d+ null$`, `^keyprefix \d+ \[{"Key":"app/c"`, `^services \d+ {.*"web":\[\].*}$`, `^nodes \d+ \[{"ID":.*"Node":"s1"`, `^service \d+ \[\]$`,
		`^checks \d+ \[{"Node":"s1","CheckID":"web",.*"Status":"critical"`, `^event 1 \[\]$`, `^old \d+ null$`, `^\d+ me {"Key":"app/c",.*}<nil>$`,
	} {
		w.awaitTold(t, line)
	}
	settle(w.C)
	told := w.told()
	goroutines, files := w.counts(t)
	for i := range 20 {
		writeFile(t, w.dir+"/other.json", fmt.Sprintf(
			`{"service": {"name": "web", "id": "web-2", "port": 1}, "log_level": "%s", "dns_config": {"node_ttl": "%ds"}}`, [...]string{"debug", "info"}[i%2], i))
		if i == 0 { // it is there before the count
			w.reload(t)
			w.awaitTold(t, `^service \d+ \[{`)
			settle(w.C)
			told = w.told()
			goroutines, files = w.counts(t)
		}
		w.reload(t)
	}
	w.PutKey("elsewhere", "x")
	settle(w.C)
	harness.Within(t, 10*time.Second, "goroutines and files are as before", func(context.Context) error {
		g, f := w.counts(t)
		if g > goroutines+3 || f > files+3 {
			return fmt.Errorf("%d goroutines and %d files, before %d and %d", g, f, goroutines, files)
		}
		return nil
	})
	if now := w.told(); now != told {
		t.Errorf("handlers ran without a change:\n%s\nbefore:\n%s", now, told)
	}

	w.Kill()
	serves(w.agent)
	w.PutKey("app/a", "1")
	w.awaitTold(t, `^key \d+ {"Key":"app/a",.*"Value":"MQ==","Session":""}$`)
	if got := ask(w.agent, "PUT", "/v1/event/fire/go", "now"); got.code != 200 {
		t.Fatal(got)
	}
	w.awaitTold(t, `^event \d+ \[{"ID":.*"Name":"go","Payload":"bm93"`)
	for _, kind := range []string{"services", "nodes", "checks", "old"} {
		if n, m := strings.Count(w.told(), "\n"+kind+" "), strings.Count(told, "\n"+kind+" "); n != m {
			t.Errorf("%s was told %d times, then %d, over a restart:\n%s", kind, m, n, w.told())
		}
	}
}

func (w *watched) reload(t *testing.T) {
	t.Helper()
	if got := ask(w.agent, "PUT", "/v1/agent/reload", ""); got.code != 200 {
		t.Fatalf("reload: %+v", got)
	}
}

// A reload that changes watches starts, stops and replaces those it names; a wrong
// one changes nothing.
func TestWatchesChange(t *testing.T) {
	w := startWatched(t)
	w.awaitTold(t, `^nodes `)
	w.awaitTold(t, `^key \d+ null$`)
	for _, bad := range []struct{ entry, say string }{
		{`{"type": "tea", "args": ["true"]}`, "watches[0]: Unsupported watch type: tea"},
		{`{"type": "nodes"}`, "watches[0]: Must define a watch handler"},
		{`{"type": "nodes", "args": ["a"], "handler": "b"}`, "Only one watch handler allowed"},
		{`{"type": "nodes", "args": ["a"], "overlp": "kill"}`, "overlp"},
	} {
		writeFile(t, w.dir+"/watches.json", `{"watches": [`+bad.entry+`]}`)
		if got := ask(w.agent, "PUT", "/v1/agent/reload", ""); got.code != 500 || !strings.Contains(got.body, bad.say) {
			t.Errorf("%s: %+v", bad.entry, got)
		}
		mentions(t, refused(t, "-dev", "-config-file="+w.dir+"/watches.json"), bad.say)
	}
	w.PutKey("app/a", "1")
	w.awaitTold(t, `^key \d+ {`)

	pidFile := filepath.Join(w.C.Dir, "pid")
	writeFile(t, w.dir+"/watches.json", `{"watches": [`+w.entry("keyprefix", `"prefix": "app/"`)+`,
		{"type": "key", "key": "app/a", "changes": true, "args": ["sh", "-c", "sleep 1000 & echo $! > `+pidFile+`; wait"]}]}`)
	w.reload(t)
	harness.Within(t, 10*time.Second, "the new handler runs", func(context.Context) error {
		_, err := os.ReadFile(pidFile)
		return err
	})
	told := w.told()
	w.PutKey("app/a", "2")
	w.PutKey("app/b", "3")
	w.awaitTold(t, `^keyprefix \d+ .*"Value":"Mw=="`) // the one that stays
	for _, kind := range []string{"key", "old", "nodes"} {
		if n, m := strings.Count(w.told(), "\n"+kind+" "), strings.Count(told, "\n"+kind+" "); n != m {
			t.Errorf("%s is gone, and was told:\n%s", kind, w.told())
		}
	}
	// The agent's end, even by kill -9, is that of the handler and its children.
	data, _ := os.ReadFile(pidFile)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	w.Kill()
	harness.Within(t, 10*time.Second, "the handler's child is gone", func(context.Context) error {
		if err := syscall.Kill(pid, 0); err == nil && !zombie(pid) {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
}

// zombie says whether a process has ended and nobody took note, which is init's to do.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
