package operator

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-dev/muster/pkg/client"
)

const (
	pairA = `{"LockIndex":0,"Key":"a/x","Flags":42,"Value":"aGVsbG8=","CreateIndex":5,"ModifyIndex":7}`
	pairB = `{"LockIndex":2,"Key":"a/y","Flags":0,"Value":null,"Session":"11111111-2222","CreateIndex":6,"ModifyIndex":6}`

	detailA = "CreateIndex      5\nFlags            42\nKey              a/x\nLockIndex        0\nModifyIndex      7\nSession          -\nValue            hello\n"
	detailB = "CreateIndex      6\nFlags            0\nKey              a/y\nLockIndex        2\nModifyIndex      6\nSession          11111111-2222\nValue            \n"
)

func get(q KVQuery) func(context.Context, *client.Client, streams) error {
	return func(ctx context.Context, c *client.Client, s streams) error { return KVGet(ctx, c, s.out, q) }
}

func put(ch KVChange) func(context.Context, *client.Client, streams) error {
	return func(ctx context.Context, c *client.Client, s streams) error { return KVPut(ctx, c, s.in, s.out, ch) }
}

func del(ch KVChange) func(context.Context, *client.Client, streams) error {
	return func(ctx context.Context, c *client.Client, s streams) error { return KVDelete(ctx, c, s.out, ch) }
}

func TestKVGet(t *testing.T) {
	one := map[string]reply{"GET /v1/kv/a/x": {body: "[" + pairA + "]"}}
	tree := map[string]reply{"GET /v1/kv/a/?recurse=": {body: "[" + pairA + "," + pairB + "]"}}
	testAll(t, []exchange{
		{name: "value", agent: one, run: get(KVQuery{Key: "a/x"}), out: "hello\n"},
		{name: "leading slash", agent: one, run: get(KVQuery{Key: "/a/x"}), out: "hello\n"},
		{name: "base64", agent: one, run: get(KVQuery{Key: "a/x", Base64: true}), out: "aGVsbG8=\n"},
		{name: "detailed", agent: one, run: get(KVQuery{Key: "a/x", Detailed: true}), out: detailA},
		{name: "binary", agent: map[string]reply{"GET /v1/kv/b": {body: `[{"Key":"b","Value":"AP8K"}]`}},
			run: get(KVQuery{Key: "b"}), out: "\x00\xff\n\n"},
		{name: "odd key", agent: map[string]reply{"GET /v1/kv/a%20b%3Fc%23%25/%C3%BC": {body: `[{"Key":"k","Value":"eA=="}]`}},
			run: get(KVQuery{Key: "a b?c#%/ü"}), out: "x\n"},
		{name: "absent", agent: map[string]reply{"GET /v1/kv/no": {code: 404}},
			run: get(KVQuery{Key: "no"}), err: "Error! No key exists at: no"},
		{name: "no key", run: get(KVQuery{}), err: "Error! Missing KEY argument"},
		{name: "slash is no key", run: get(KVQuery{Key: "/"}), err: "Error! Missing KEY argument"},
		{name: "no leader", agent: map[string]reply{"GET /v1/kv/a": {code: 500, body: "No cluster leader\n"}},
			run: get(KVQuery{Key: "a"}), err: "Error querying Consul agent: Unexpected response code: 500 (No cluster leader)"},
		{name: "recurse", agent: tree, run: get(KVQuery{Key: "a/", Recurse: true}), out: "a/x:hello\na/y:\n"},
		{name: "recurse base64", agent: tree, run: get(KVQuery{Key: "a/", Recurse: true, Base64: true}), out: "a/x:aGVsbG8=\na/y:\n"},
		{name: "recurse detailed", agent: tree, run: get(KVQuery{Key: "a/", Recurse: true, Detailed: true}), out: detailA + "\n" + detailB},
		{name: "recurse nothing", agent: map[string]reply{"GET /v1/kv/?recurse=": {code: 404}}, run: get(KVQuery{Recurse: true})},
		{name: "keys", agent: map[string]reply{"GET /v1/kv/a/?keys=&separator=%2F": {body: `["a/b/","a/x"]`}},
			run: get(KVQuery{Key: "a/", Keys: true, Separator: "/"}), out: "a/b/\na/x\n"},
		{name: "all keys", agent: map[string]reply{"GET /v1/kv/?keys=": {body: `["a/b/c"]`}},
			run: get(KVQuery{Keys: true, Recurse: true, Separator: "/"}), out: "a/b/c\n"},
		{name: "no keys", agent: map[string]reply{"GET /v1/kv/a?keys=": {code: 404}}, run: get(KVQuery{Key: "a", Keys: true})},
		{name: "stale elsewhere", agent: map[string]reply{"GET /v1/kv/a/x?dc=east&stale=": one["GET /v1/kv/a/x"]},
			run: get(KVQuery{Key: "a/x", Options: client.Options{Datacenter: "east", Stale: true}}), out: "hello\n"},
	})
}

func TestKVPut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("\x00from\xfffile\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	yes, no := reply{body: "true"}, reply{body: "false"}
	plain := map[string]reply{"PUT /v1/kv/k": yes}
	testAll(t, []exchange{
		{name: "literal", agent: plain, run: put(KVChange{Key: "k", Data: "v"}), out: "Success! Data written to: k\n", bodies: []string{"v"}},
		{name: "nothing", agent: plain, run: put(KVChange{Key: "k"}), out: "Success! Data written to: k\n", bodies: []string{""}},
		{name: "file", agent: plain, run: put(KVChange{Key: "k", Data: "@" + file}), out: "Success! Data written to: k\n", bodies: []string{"\x00from\xfffile\n"}},
		{name: "stdin", agent: plain, in: "in\n", run: put(KVChange{Key: "k", Data: "-"}), out: "Success! Data written to: k\n", bodies: []string{"in\n"}},
		{name: "base64", agent: plain, in: "AP8=\n", run: put(KVChange{Key: "k", Data: "-", Base64: true}), out: "Success! Data written to: k\n", bodies: []string{"\x00\xff"}},
		{name: "not base64", run: put(KVChange{Key: "k", Data: "*", Base64: true}), err: "Error! Cannot base 64 decode data: illegal base64 data at input byte 0"},
		{name: "no file", run: put(KVChange{Key: "k", Data: "@/no/file"}), err: "Error! Failed to read data: open /no/file: no such file or directory"},
		{name: "flags", agent: map[string]reply{"PUT /v1/kv/k?flags=18446744073709551615": yes},
			run: put(KVChange{Key: "k", Flags: 1<<64 - 1}), out: "Success! Data written to: k\n"},
		{name: "cas", agent: map[string]reply{"PUT /v1/kv/k?cas=7": yes},
			run: put(KVChange{Key: "k", CAS: true, ModifyIndex: 7}), out: "Success! Data written to: k\n"},
		{name: "cas failed", agent: map[string]reply{"PUT /v1/kv/k?cas=7": no},
			run: put(KVChange{Key: "k", CAS: true, ModifyIndex: 7}), err: "Error! Did not write to k: CAS failed"},
		{name: "cas on what exists", agent: map[string]reply{"PUT /v1/kv/k?cas=0": no},
			run: put(KVChange{Key: "k", CAS: true}), err: "Error! Did not write to k: CAS performed with index=0 and key already exists."},
		{name: "index without cas", run: put(KVChange{Key: "k", ModifyIndex: 7}), err: "Cannot specify -modify-index without -cas!"},
		{name: "acquire", agent: map[string]reply{"PUT /v1/kv/k?acquire=s": yes},
			run: put(KVChange{Key: "k", Session: "s", Acquire: true}), out: "Success! Lock acquired on: k\n"},
		{name: "not acquired", agent: map[string]reply{"PUT /v1/kv/k?acquire=s": no},
			run: put(KVChange{Key: "k", Session: "s", Acquire: true}), err: "Error! Did not acquire lock"},
		{name: "release", agent: map[string]reply{"PUT /v1/kv/k?release=s": yes},
			run: put(KVChange{Key: "k", Session: "s", Release: true}), out: "Success! Lock released on: k\n"},
		{name: "not released", agent: map[string]reply{"PUT /v1/kv/k?release=s": no},
			run: put(KVChange{Key: "k", Session: "s", Release: true}), err: "Error! Did not release lock"},
		{name: "no session", run: put(KVChange{Key: "k", Acquire: true}), err: "Error! Missing -session (required with -acquire and -release)"},
		{name: "no key", run: put(KVChange{}), err: "Error! Missing KEY argument"},
		{name: "leading slash", run: put(KVChange{Key: "/k"}), err: "Error! Failed writing data: Invalid key. Key must not begin with a '/': /k"},
		{name: "folder", agent: map[string]reply{"PUT /v1/kv/a/b/": yes}, run: put(KVChange{Key: "a/b/"}), out: "Success! Data written to: a/b/\n"},
		{name: "empty part", run: put(KVChange{Key: "a//b"}),
			err: `Error! Failed writing data: Invalid key. Key must not have an empty, "." or ".." part between its slashes: a//b`},
		{name: "bad session", agent: map[string]reply{"PUT /v1/kv/k?acquire=s": {code: 500, body: `raft apply failed: invalid session "s"`}},
			run: put(KVChange{Key: "k", Session: "s", Acquire: true}), err: `Error! Failed writing data: Unexpected response code: 500 (raft apply failed: invalid session "s")`},
	})
}

func TestKVDelete(t *testing.T) {
	testAll(t, []exchange{
		{name: "key", agent: map[string]reply{"DELETE /v1/kv/k": {body: "true"}}, run: del(KVChange{Key: "/k"}), out: "Success! Deleted key: k\n"},
		{name: "prefix", agent: map[string]reply{"DELETE /v1/kv/p/?recurse=": {body: "true"}},
			run: del(KVChange{Key: "p/", Recurse: true}), out: "Success! Deleted keys with prefix: p/\n"},
		{name: "everything", agent: map[string]reply{"DELETE /v1/kv/?recurse=": {body: "true"}},
			run: del(KVChange{Recurse: true}), out: "Success! Deleted keys with prefix: \n"},
		{name: "cas", agent: map[string]reply{"DELETE /v1/kv/k?cas=3": {body: "true"}},
			run: del(KVChange{Key: "k", CAS: true, ModifyIndex: 3}), out: "Success! Deleted key: k\n"},
		{name: "cas failed", agent: map[string]reply{"DELETE /v1/kv/k?cas=3": {body: "false"}},
			run: del(KVChange{Key: "k", CAS: true, ModifyIndex: 3}), err: "Error! Did not delete key k: CAS failed"},
		{name: "cas without index", run: del(KVChange{Key: "k", CAS: true}),
			err: "Cannot delete a key that does not exist. Provide a -modify-index greater than than 0."},
		{name: "cas and recurse", run: del(KVChange{Key: "k", CAS: true, Recurse: true}), err: "Cannot specify both -cas and -recurse!"},
		{name: "index without cas", run: del(KVChange{Key: "k", ModifyIndex: 3}), err: "Cannot specify -modify-index without -cas!"},
		{name: "no key", run: del(KVChange{}), err: "Error! Missing KEY argument"},
		{name: "another key in a URL", run: del(KVChange{Key: "a/../b"}),
			err: `Error! Did not delete key a/../b: Key must not have an empty, "." or ".." part between its slashes`},
		{name: "refused", agent: map[string]reply{"DELETE /v1/kv/k": {code: 403, body: "Permission denied"}},
			run: del(KVChange{Key: "k"}), err: "Error! Did not delete key k: Unexpected response code: 403 (Permission denied)"},
	})
}

const exportText = "[\n\t{\n\t\t\"key\": \"a/x\",\n\t\t\"flags\": 42,\n\t\t\"value\": \"aGVsbG8=\"\n\t},\n" +
	"\t{\n\t\t\"key\": \"a/y\",\n\t\t\"flags\": 0,\n\t\t\"value\": \"\"\n\t}\n]\n"

func TestKVExport(t *testing.T) {
	export := func(prefix string) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error {
			return KVExport(ctx, c, s.out, prefix, client.Options{})
		}
	}
	testAll(t, []exchange{
		{name: "prefix", agent: map[string]reply{"GET /v1/kv/a/?recurse=": {body: "[" + pairA + "," + pairB + "]"}}, run: export("/a/"), out: exportText},
		{name: "nothing", agent: map[string]reply{"GET /v1/kv/?recurse=": {code: 404}}, run: export(""), out: "[]\n"},
	})
}

func TestKVImport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "export.json")
	if err := os.WriteFile(file, []byte(exportText), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(data, prefix string) func(context.Context, *client.Client, streams) error {
		return func(ctx context.Context, c *client.Client, s streams) error {
			return KVImport(ctx, c, s.in, s.out, data, prefix, client.Options{})
		}
	}
	yes := reply{body: "true"}
	both := map[string]reply{"PUT /v1/kv/a/x?flags=42": yes, "PUT /v1/kv/a/y": yes}
	imported := "Imported: a/x\nImported: a/y\n"
	testAll(t, []exchange{
		{name: "file", agent: both, run: load("@"+file, ""), out: imported, bodies: []string{"hello", ""}},
		{name: "stdin", agent: both, in: exportText, run: load("-", ""), out: imported, bodies: []string{"hello", ""}},
		{name: "literal", agent: both, run: load(exportText, ""), out: imported},
		{name: "prefix", agent: map[string]reply{"PUT /v1/kv/p/a/": yes}, run: load(`[{"key":"a/","namespace":"x"}]`, "p/"), out: "Imported: p/a/\n"},
		{name: "no data", run: load("", ""), err: "Error! Missing DATA argument"},
		{name: "no JSON", run: load("x", ""), err: "Error! Cannot unmarshal data: invalid character 'x' looking for beginning of value"},
		{name: "bad value writes nothing", run: load(`[{"key":"a","value":"YQ=="},{"key":"b","value":"*"}]`, ""),
			err: "Error! Cannot base 64 decode value of key b: illegal base64 data at input byte 0", bodies: []string{}},
		{name: "bad key writes nothing", run: load(`[{"key":"a"},{"key":"/b"}]`, ""),
			err: `Error! Failed writing data: Invalid key "/b" in entry 2`, bodies: []string{}},
		{name: "refused", agent: map[string]reply{"PUT /v1/kv/a": {code: 413, body: "too large"}}, run: load(`[{"key":"a"}]`, ""),
			err: "Error! Failed writing data for key a: Unexpected response code: 413 (too large)"},
	})
}
