package exec

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// credentialOf returns the credential with which a process runs as a user, and the
// user's home. The credential is nil if this process runs as that user already.
func credentialOf(name string) (*syscall.Credential, string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, "", fmt.Errorf("run as user %q: %w", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, "", fmt.Errorf("run as user %q: its id is %q", name, u.Uid)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, "", fmt.Errorf("run as user %q: its group is %q", name, u.Gid)
	}
	if int(uid) == os.Getuid() {
		return nil, u.HomeDir, nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, "", fmt.Errorf("run as user %q: list its groups: %w", name, err)
	}
	out := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			out.Groups = append(out.Groups, uint32(n))
		}
	}
	return out, u.HomeDir, nil
}
