package handlers

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
)

// StateDir is the default of Config.Dir: muster/watch below XDG_STATE_HOME, else below
// .local/state of the user's home.
func StateDir() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil { // HOME is not set, as in a system service
			me, err := user.Current()
			if err != nil || me.HomeDir == "" {
				return "", errors.New("no directory to remember deliveries in, the next start delivers again: set HOME, XDG_STATE_HOME or -state-dir")
			}
			home = me.HomeDir
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "muster", "watch"), nil
}
