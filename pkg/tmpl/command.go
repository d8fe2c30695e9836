package tmpl

import (
	"strings"

	"github.com/muster-dev/muster/pkg/proc"
)

// wordMark stands between the words of a command that was given as a list. It
// cannot be in a word: the system's own calls end words with it.
const wordMark = "\x00"

// CommandLine makes the Command or Check of a Template from a list of words: one
// word is a command line, by a shell if it has blanks; several run directly.
func CommandLine(words []string) string { return strings.Join(words, wordMark) }

func commandWords(line string) []string { return strings.Split(line, wordMark) }

// shown is a command line for a person to read.
func shown(line string) string { return strings.ReplaceAll(line, wordMark, " ") }

func resolve(line string, shell *bool) (argv []string, notice string, err error) {
	return proc.Resolve(commandWords(line), shell)
}

// joinEnv makes an environment fit to be part of a map key.
func joinEnv(env []string) string { return strings.Join(env, wordMark) }

func (c command) environ(otherwise []string) []string {
	if c.env == "" {
		return otherwise
	}
	return strings.Split(c.env, wordMark)
}
