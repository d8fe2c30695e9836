package operator

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/client"
)

// exported is a pair as `kv export` writes it.
type exported struct {
	Key   string `json:"key"`
	Flags uint64 `json:"flags"`
	Value string `json:"value"` // base64
}

// KVExport prints everything under a prefix as JSON.
func KVExport(ctx context.Context, c *client.Client, out io.Writer, prefix string, o client.Options) error {
	pairs, _, err := c.KVList(ctx, strings.TrimPrefix(prefix, "/"), &o)
	if err != nil {
		return queryFailed(err)
	}
	list := make([]exported, 0, len(pairs))
	for _, p := range pairs {
		list = append(list, exported{p.Key, p.Flags, base64.StdEncoding.EncodeToString(p.Value)})
	}
	text, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		return failed(err, "Error exporting KV data")
	}
	_, _ = out.Write(append(text, '\n'))
	return nil
}

// KVImport writes what KVExport printed: data is the text itself, @FILE, or -
// for standard input. Nothing is written unless all of it can be read.
func KVImport(ctx context.Context, c *client.Client, in io.Reader, out io.Writer, data, prefix string, o client.Options) error {
	if data == "" {
		return refused("Error! Missing DATA argument")
	}
	text, err := readData(in, data)
	if err != nil {
		return failed(err, "Error! Failed to read data")
	}
	var list []exported
	if err := json.Unmarshal(text, &list); err != nil {
		return failed(err, "Error! Cannot unmarshal data")
	}
	values := make([][]byte, len(list))
	for i := range list {
		e := &list[i]
		if values[i], err = base64.StdEncoding.DecodeString(e.Value); err != nil {
			return failed(err, "Error! Cannot base 64 decode value of key %s", e.Key)
		}
		if e.Key = joinPrefix(prefix, e.Key); e.Key == "" || e.Key != api.CleanKey(e.Key) {
			return refused("Error! Failed writing data: Invalid key %q in entry %d", e.Key, i+1)
		}
	}
	for i, e := range list {
		ok, err := c.KVPut(ctx, e.Key, values[i], client.KVWrite{Flags: e.Flags}, &o)
		switch {
		case err != nil:
			return failed(err, "Error! Failed writing data for key %s", e.Key)
		case !ok:
			return refused("Error! Failed writing data for key %s", e.Key)
		}
		fmt.Fprintf(out, "Imported: %s\n", e.Key)
	}
	return nil
}

// joinPrefix puts a key below a prefix. It keeps a slash at the end, which means a folder.
func joinPrefix(prefix, key string) string {
	if prefix == "" {
		return key
	}
	joined := path.Join(prefix, key)
	if strings.HasSuffix(key, "/") && !strings.HasSuffix(joined, "/") {
		joined += "/"
	}
	return joined
}
