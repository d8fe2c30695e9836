package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// maxDeadLetters bounds the file of dead letters, in bytes.
const maxDeadLetters = 64 << 20

// deadLetter is a line of the file of changes that were given up.
type deadLetter struct {
	Time     time.Time       `json:"time"`
	Watch    string          `json:"watch"`
	Index    uint64          `json:"index"`
	Attempts int             `json:"attempts"`
	Error    string          `json:"error"`
	Data     json.RawMessage `json:"data"`            // the update
	Input    string          `json:"input,omitempty"` // of the handler, where that is not the update
}

// writeDeadLetter appends a dead letter, if the watch has a file for them.
func (d *delivery) writeDeadLetter(v update, in Input, cause error) (err error) {
	if d.spec.DeadLetters == "" {
		return nil
	}
	letter := deadLetter{
		Time: time.Now(), Watch: d.spec.String(), Index: v.index, Attempts: d.failures, Error: cause.Error(), Data: v.body(),
	}
	if d.spec.Changes {
		letter.Input = string(in.Data)
	}
	line, err := json.Marshal(letter)
	if err != nil {
		return fmt.Errorf("encode a dead letter: %w", err)
	}
	f, err := os.OpenFile(d.spec.DeadLetters, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil || info.Size()+int64(len(line)) > maxDeadLetters {
		return errors.Join(err, fmt.Errorf("%s is at its limit of %d MiB", d.spec.DeadLetters, maxDeadLetters>>20))
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Sync()
}
