package proc

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/muster-dev/muster/pkg/proc/guard"
)

// ownExecutable also works after the file was replaced or deleted.
func ownExecutable() (string, error) { return "/proc/self/exe", nil }

// sweep kills what a guard ran that was itself killed: what is in its session,
// or carries its token.
func sweep(_, session int, token string) {
	mark := []byte(guard.Env + "=" + token + "\x00")
	for give := time.Now().Add(guard.KillTime); time.Now().Before(give); time.Sleep(5 * time.Millisecond) {
		found := false
		for _, p := range guard.Processes() {
			if p.Zombie {
				continue
			}
			if p.Session != session {
				env, _ := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/environ")
				if !bytes.Contains(env, mark) {
					continue
				}
			}
			found = true
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
			_, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil) // ours only if we are the init here
		}
		if !found {
			return
		}
	}
}
