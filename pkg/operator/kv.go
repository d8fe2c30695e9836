package operator

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

const (
	missingKey = "Error! Missing KEY argument"
	uncleanKey = `Key must not have an empty, "." or ".." part between its slashes`
)

// KVQuery are the options of `kv get`.
type KVQuery struct {
	Key       string
	Base64    bool
	Detailed  bool
	Keys      bool // names only
	Recurse   bool // everything under the key
	Separator string
	Options   client.Options
}

// KVGet prints a value, the pairs under a prefix, or their keys. A key that is
// not there is an error; a prefix that has none is not.
func KVGet(ctx context.Context, c *client.Client, out io.Writer, q KVQuery) error {
	key := strings.TrimPrefix(q.Key, "/")
	switch {
	case q.Keys:
		separator := q.Separator
		if q.Recurse {
			separator = ""
		}
		keys, _, err := c.KVKeys(ctx, key, separator, &q.Options)
		if err != nil {
			return queryFailed(err)
		}
		for _, k := range keys {
			fmt.Fprintln(out, k)
		}
		return nil
	case q.Recurse:
		pairs, _, err := c.KVList(ctx, key, &q.Options)
		if err != nil {
			return queryFailed(err)
		}
		printPairs(out, pairs, q)
		return nil
	case key == "":
		return refused(missingKey)
	}
	pair, _, err := c.KVGet(ctx, key, &q.Options)
	switch {
	case err != nil:
		return queryFailed(err)
	case pair == nil:
		return refused("Error! No key exists at: %s", key)
	case q.Detailed:
		printPair(out, pair, q.Base64)
	default:
		_, _ = out.Write(append(printedValue(pair, q.Base64), '\n'))
	}
	return nil
}

func printPairs(out io.Writer, pairs []*api.KVPair, q KVQuery) {
	for i, pair := range pairs {
		switch {
		case !q.Detailed:
			fmt.Fprintf(out, "%s:%s\n", pair.Key, printedValue(pair, q.Base64))
			continue
		case i > 0:
			fmt.Fprintln(out)
		}
		printPair(out, pair, q.Base64)
	}
}

func printPair(out io.Writer, pair *api.KVPair, encoded bool) {
	session := pair.Session
	if session == "" {
		session = "-"
	}
	for _, line := range []struct {
		name  string
		value any
	}{
		{"CreateIndex", pair.CreateIndex},
		{"Flags", pair.Flags},
		{"Key", pair.Key},
		{"LockIndex", pair.LockIndex},
		{"ModifyIndex", pair.ModifyIndex},
		{"Session", session},
		{"Value", string(printedValue(pair, encoded))},
	} {
		fmt.Fprintf(out, "%-17s%v\n", line.name, line.value)
	}
}

func printedValue(pair *api.KVPair, encoded bool) []byte {
	if encoded {
		return []byte(base64.StdEncoding.EncodeToString(pair.Value))
	}
	return pair.Value
}

// KVChange are the options of `kv put` and `kv delete`.
type KVChange struct {
	Key         string
	Data        string // put: the value; @FILE and - are read
	Base64      bool   // put: the value is encoded
	Flags       uint64
	CAS         bool
	ModifyIndex uint64
	Session     string
	Acquire     bool
	Release     bool
	Recurse     bool // delete
	Options     client.Options
}

// KVPut writes a value, whole and byte for byte.
func KVPut(ctx context.Context, c *client.Client, in io.Reader, out io.Writer, ch KVChange) error {
	switch {
	case ch.Key == "":
		return refused(missingKey)
	case strings.HasPrefix(ch.Key, "/"):
		return refused("Error! Failed writing data: Invalid key. Key must not begin with a '/': %s", ch.Key)
	case ch.Key != api.CleanKey(ch.Key):
		return refused("Error! Failed writing data: Invalid key. %s: %s", uncleanKey, ch.Key)
	case (ch.Acquire || ch.Release) && ch.Session == "":
		return refused("Error! Missing -session (required with -acquire and -release)")
	case ch.ModifyIndex != 0 && !ch.CAS:
		return refused("Cannot specify -modify-index without -cas!")
	}
	value, err := readData(in, ch.Data)
	if err != nil {
		return failed(err, "Error! Failed to read data")
	}
	if ch.Base64 {
		if value, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(value))); err != nil {
			return failed(err, "Error! Cannot base 64 decode data")
		}
	}
	w := client.KVWrite{Flags: ch.Flags}
	if ch.CAS {
		w.CAS = &ch.ModifyIndex
	}
	if ch.Acquire {
		w.Acquire = ch.Session
	}
	if ch.Release {
		w.Release = ch.Session
	}
	ok, err := c.KVPut(ctx, ch.Key, value, w, &ch.Options)
	if err != nil {
		return failed(err, "Error! Failed writing data")
	}
	return reportPut(out, ch, ok)
}

func reportPut(out io.Writer, ch KVChange, ok bool) error {
	switch {
	case ok && ch.Acquire:
		fmt.Fprintf(out, "Success! Lock acquired on: %s\n", ch.Key)
	case ok && ch.Release:
		fmt.Fprintf(out, "Success! Lock released on: %s\n", ch.Key)
	case ok:
		fmt.Fprintf(out, "Success! Data written to: %s\n", ch.Key)
	case ch.Acquire:
		return refused("Error! Did not acquire lock")
	case ch.Release:
		return refused("Error! Did not release lock")
	case ch.CAS && ch.ModifyIndex == 0:
		return refused("Error! Did not write to %s: CAS performed with index=0 and key already exists.", ch.Key)
	case ch.CAS:
		return refused("Error! Did not write to %s: CAS failed", ch.Key)
	default:
		return refused("Error! Did not write to %s: the agent refused it without a reason", ch.Key)
	}
	return nil
}

// readData reads the data of an argument: of @FILE, standard input (-) or its text.
func readData(in io.Reader, arg string) ([]byte, error) {
	if name, isFile := strings.CutPrefix(arg, "@"); isFile {
		return os.ReadFile(name)
	}
	if arg == "-" {
		return io.ReadAll(in)
	}
	return []byte(arg), nil
}

// KVDelete deletes a key or everything under a prefix; what is not there is
// deleted already.
func KVDelete(ctx context.Context, c *client.Client, out io.Writer, ch KVChange) error {
	key := strings.TrimPrefix(ch.Key, "/")
	switch {
	case ch.CAS && ch.Recurse:
		return refused("Cannot specify both -cas and -recurse!")
	case ch.ModifyIndex != 0 && !ch.CAS:
		return refused("Cannot specify -modify-index without -cas!")
	case ch.CAS && ch.ModifyIndex == 0:
		return refused("Cannot delete a key that does not exist. Provide a -modify-index greater than than 0.")
	case key == "" && !ch.Recurse:
		return refused(missingKey)
	case key != api.CleanKey(key):
		return refused("Error! Did not delete key %s: %s", key, uncleanKey)
	}
	w := client.KVWrite{Recurse: ch.Recurse}
	if ch.CAS {
		w.CAS = &ch.ModifyIndex
	}
	ok, err := c.KVDelete(ctx, key, w, &ch.Options)
	switch {
	case err != nil && ch.Recurse:
		return failed(err, "Error! Did not delete prefix %s", key)
	case err != nil:
		return failed(err, "Error! Did not delete key %s", key)
	case !ok:
		return refused("Error! Did not delete key %s: CAS failed", key)
	case ch.Recurse:
		fmt.Fprintf(out, "Success! Deleted keys with prefix: %s\n", key)
	default:
		fmt.Fprintf(out, "Success! Deleted key: %s\n", key)
	}
	return nil
}
