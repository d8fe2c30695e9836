package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/pkg/operator"
)

const missingKey = "Error! Missing KEY argument"

func kvCommand() *cobra.Command {
	return group("kv", "read and write the key/value store", "agent kv put app/greeting hello",
		kvGetCommand(), kvPutCommand(), kvDeleteCommand(), kvExportCommand(), kvImportCommand())
}

func kvGetCommand() *cobra.Command {
	var q operator.KVQuery
	return subcommand{
		use:     "get [flags] [KEY]",
		short:   "print the value of a key, or what is under a prefix",
		example: "agent kv get -recurse app/",
		server:  true,
		most:    1,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&q.Base64, "base64", false, "print values in base64")
			fs.BoolVar(&q.Detailed, "detailed", false, "print flags, indexes and session too")
			fs.BoolVar(&q.Keys, "keys", false, "print keys only, those up to the next separator")
			fs.BoolVar(&q.Recurse, "recurse", false, "print everything under the prefix KEY")
			fs.StringVar(&q.Separator, "separator", "/", "`text` that ends a level of keys, with -keys")
		},
		run: func(ctx context.Context, s session) error {
			q.Key, q.Options = s.arg(0), s.read
			return operator.KVGet(ctx, s.Client, s.out, q)
		},
	}.command()
}

// kvChange is the shape of put and delete.
func (sub subcommand) kvChange(ch *operator.KVChange) *cobra.Command {
	more := sub.flags
	sub.server = true
	sub.flags = func(fs *pflag.FlagSet) {
		fs.BoolVar(&ch.CAS, "cas", false, "only if the key has not changed since -modify-index")
		fs.Uint64Var(&ch.ModifyIndex, "modify-index", 0, "the key's ModifyIndex, for -cas; for put, 0 means that there must be no such key")
		more(fs)
	}
	return sub.command()
}

func kvPutCommand() *cobra.Command {
	var ch operator.KVChange
	return subcommand{
		use:     "put [flags] KEY [DATA]",
		short:   "write a value",
		long:    "Put writes a value. DATA is the value itself, @FILE for the content of a file, or - for\nstandard input; without it the value is empty.",
		example: "agent kv put app/config @config.json",
		most:    2,
		missing: missingKey,
		flags: func(fs *pflag.FlagSet) {
			fs.Uint64Var(&ch.Flags, "flags", 0, "`number` to keep with the value")
			fs.BoolVar(&ch.Base64, "base64", false, "DATA is base64: decode it")
			fs.StringVar(&ch.Session, "session", "", "`id` of the session, for -acquire and -release")
			fs.BoolVar(&ch.Acquire, "acquire", false, "take the lock on the key")
			fs.BoolVar(&ch.Release, "release", false, "give up the lock on the key")
		},
		run: func(ctx context.Context, s session) error {
			ch.Key, ch.Data, ch.Options = s.arg(0), s.arg(1), s.read
			return operator.KVPut(ctx, s.Client, s.in, s.out, ch)
		},
	}.kvChange(&ch)
}

func kvDeleteCommand() *cobra.Command {
	var ch operator.KVChange
	return subcommand{
		use:     "delete [flags] KEY",
		short:   "delete a key, or everything under a prefix",
		example: "agent kv delete -recurse app/old/",
		most:    1,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&ch.Recurse, "recurse", false, "delete everything under the prefix KEY; without KEY everything there is")
		},
		run: func(ctx context.Context, s session) error {
			ch.Key, ch.Options = s.arg(0), s.read
			return operator.KVDelete(ctx, s.Client, s.out, ch)
		},
	}.kvChange(&ch)
}

func kvExportCommand() *cobra.Command {
	return subcommand{
		use:     "export [flags] [PREFIX]",
		short:   "print what is under a prefix as JSON",
		example: "agent kv export app/ > app.json",
		server:  true,
		most:    1,
		run: func(ctx context.Context, s session) error {
			return operator.KVExport(ctx, s.Client, s.out, s.arg(0), s.read)
		},
	}.command()
}

func kvImportCommand() *cobra.Command {
	var prefix string
	return subcommand{
		use:     "import [flags] DATA",
		short:   "write what export printed",
		long:    "Import writes what export printed. DATA is the JSON itself, @FILE for the content of a file,\nor - for standard input.",
		example: "agent kv import -prefix restored @app.json",
		server:  true,
		most:    1,
		missing: "Error! Missing DATA argument",
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&prefix, "prefix", "", "`prefix` to put before each key")
		},
		run: func(ctx context.Context, s session) error {
			return operator.KVImport(ctx, s.Client, s.in, s.out, s.arg(0), prefix, s.read)
		},
	}.command()
}
