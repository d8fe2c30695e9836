package funcs

import (
	"errors"
	"strings"
	"testing"

	"github.com/Masterminds/sprig/v3"
)

func TestTextHelpers(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{"a\n\n b\n" | indent 2}}.`, "  a\n\n   b\n.", ""},
		{`{{indent 0 "a"}}{{indent (len "ab") "x"}}`, "a  x", ""},
		{`{{indent -1 "a"}}`, "", "indent: -1 is not a positive number"},
		{`{{split "," "a,b" | join "-"}}`, "a-b", ""},
		{`{{len (split "," " ")}} {{split "\n" "\na\nb\n" | toJSON}}`, `0 ["a","b"]`, ""},
		{`{{"[1,\"b\",true]" | parseJSON | join "-"}}`, "1-b-true", ""},
		{`{{join "," "x"}}`, "", "join: wanted a list"},
		{`{{"xxaxx" | trim "x"}} {{" a " | trimSpace}} {{"pre-a" | trimPrefix "pre-"}} {{"a.cfg" | trimSuffix ".cfg"}}`, "a a a a", ""},
		{`{{"foo.bar.baz" | replaceAll "." "_"}}`, "foo_bar_baz", ""},
		{`{{"foo.bar" | regexMatch "foo([.a-z]+)"}} {{regexMatch "^x" "foo"}}`, "true false", ""},
		{`{{"foo.bar" | regexReplaceAll "foo([.a-z]+)" "$1"}}`, ".bar", ""},
		{`{{regexMatch "(" "x"}}`, "", "missing closing )"},
		{`{{regexReplaceAll "(" "x" "y"}}`, "", "missing closing )"},
		{`{{"Ab" | toLower}} {{"Ab" | toUpper}} {{"hello wORLD it's o_k x-y" | toTitle}}`, "ab AB Hello WORLD It's O_k X-Y", ""},
		{`{{"a:1,b:2:3" | splitToMap "," ":" | toJSON}} {{" a : 1, b:" | splitToMap "," ":" | toJSON}}`, `{"a":"1","b":"2:3"} {" b":"","a ":" 1"}`, ""},
		{`{{"a,,b:2," | splitToMap "," ":" | toJSON}} {{"" | splitToMap "," ":" | toJSON}}`, `{"b":"2"} {}`, ""}, // what has no value is no pair
	})
}

func TestEncodingHelpers(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{base64Encode "hello?>"}} {{base64Decode "aGVsbG8="}}`, "aGVsbG8/Pg== hello", ""},
		{`{{base64URLEncode "hello?>"}} {{base64URLDecode "aGVsbG8_Pg=="}} {{base64URLDecode "aGVsbG8_Pg"}}`, "aGVsbG8_Pg== hello?> hello?>", ""},
		{`{{base64Decode "!"}}`, "", "base64Decode: illegal base64"},
		{`{{base64URLDecode "!"}}`, "", "base64URLDecode: illegal base64"},
		{`{{"a" | sha256Hex}}`, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb", ""},
		{`{{"a" | md5sum}}`, "0cc175b9c0f1b6a831c399e269772661", ""},
		{`{{hmacSHA256Hex "message" "key"}}`, "6e9ef29b75fffc5b7abae527d58fdadb2fe42e7219011976917343065f58ed4a", ""},
		{`{{"key" | hmacSHA256Hex "message"}}`, "6e9ef29b75fffc5b7abae527d58fdadb2fe42e7219011976917343065f58ed4a", ""},
		{`{{parseBool "true"}} {{parseBool ""}} {{parseInt "-7"}} {{parseInt ""}} {{parseUint "7"}} {{parseUint ""}} {{parseFloat "1.5"}} {{parseFloat ""}}`,
			"true false -7 0 7 0 1.5 0", ""},
		{`{{parseBool "maybe"}}`, "", `parsing "maybe"`},
		{`{{parseInt "0x1"}}`, "", `parsing "0x1"`},
		{`{{parseUint "-1"}}`, "", `parsing "-1"`},
		{`{{parseFloat "x"}}`, "", `parsing "x"`},
		{`{{with parseJSON "{\"a\":{\"b\":[1,2]}}"}}{{index .a.b 1}}{{end}}{{with parseJSON ""}}x{{else}}none{{end}}`, "2none", ""},
		{`{{parseJSON "{"}}`, "", "parseJSON: unexpected end"},
		{`{{with parseYAML "a: {b: [1, x]}\n"}}{{index .a.b 1}}{{end}}{{len (parseYAML "")}}`, "x0", ""},
		{`{{parseYAML "a: ["}}`, "", "parseYAML: "},
		{`{{tree "app" | explode | toJSON}}`, `{"db":{"host":"10.0.0.9","name":"main"},"empty":"","port":"8080"}`, ""},
		{`{{ls "app" | explode | toJSONPretty}}`, "{\n  \"empty\": \"\",\n  \"port\": \"8080\"\n}", ""},
		{`{{"<&>" | toJSON}} {{"<&>" | toUnescapedJSON}}`, `"\u003c\u0026\u003e" "<&>"`, ""},
		{`{{dict "a" "<" | toUnescapedJSONPretty}}`, "{\n  \"a\": \"<\"\n}", ""},
		{`{{tree "app" | explode | toYAML}}`, "db:\n  host: 10.0.0.9\n  name: main\nempty: \"\"\nport: \"8080\"", ""},
		{`{{dict "a" (list 1 2) | toYAML}}`, "a:\n- 1\n- 2", ""},
		{`{{tree "app" | explode | toTOML}}`, "empty = \"\"\nport = \"8080\"\n\n[db]\n  host = \"10.0.0.9\"\n  name = \"main\"", ""},
		{`{{service "none" | toJSON}} {{ls "none" | toJSON}} {{(index (service "web|any") 3).Tags | toJSON}}`, "[] [] []", ""},
	})
}

func TestGroupHelpers(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{range $tag, $s := service "web|any" | byTag}}{{$tag}}:{{range $s}} {{.ID}}{{end}};{{end}}`, "blue: web-2;green: web-1;prod: web-1 web-2 web-5;", ""},
		{`{{range $tag, $s := services | byTag}}{{$tag}}:{{range $s}} {{.Name}}{{end}};{{end}}`, "blue: web;green: web;prod: web;", ""},
		{`{{range $tag, $s := (node "n1").Services | byTag}}{{$tag}}:{{range $s}} {{.ID}}{{end}};{{end}}`, "green: web-1;prod: web-1;", ""},
		{`{{byTag "x"}}`, "", "byTag: wrong argument type string"},
		{`{{tree "app" | byTag}}`, "", "byTag: wrong argument type []*funcs.KeyPair"},
		{`{{range $port, $s := service "web|any" | byPort}}{{$port}}:{{range $s}} {{.ID}}{{end}};{{end}}`, "80: web-1 web-3 web-4;81: web-2;8000: web-5;", ""},
		{`{{range $k, $s := service "web" | byMeta "shard|int"}}{{$k}}:{{range $s}} {{.ID}}{{end}};{{end}}`, "00002: web-1;00010: web-2;", ""},
		{`{{range $k, $s := service "web|any" | byMeta "env,shard"}}{{$k}};{{end}}`, "_no_env__10;_no_env__2;_no_env___no_shard_;a_b__no_shard_;", ""},
		{`{{range $k, $s := service "cache" | byMeta "shard|int"}}{{$k}};{{end}}`, "00000;", ""},
		{`{{service "web|any" | byMeta "env|int"}}`, "", `byMeta: service web-3 on n3: cannot parse "a b" of env as number`},
	})
}

func TestMembershipHelpers(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{$l := list 1 2.5 "a"}}{{in $l 1}} {{in $l 2.5}} {{in $l "a"}} {{in $l "1"}} {{in $l 3}}`, "true true true false false", ""},
		{`{{$l := parseJSON "[1,2]"}}{{in $l 2}} {{contains 2 $l}} {{$l | contains 3}}`, "true true false", ""},
		{`{{in "haystack" "stack"}} {{in "haystack" "needle"}} {{contains "hay" "haystack"}}`, "true false true", ""},
		{`{{in (service "web|any") 1}} {{in (list) "a"}} {{in nil "a"}} {{in (list nil) "a"}}`, "false false false false", ""},
		{`{{in 5 1}}`, "false", ""},
		{`{{$t := list "a" "b"}}{{containsAll (list "a") $t}} {{containsAll (list "a" "c") $t}} {{containsAll (list) $t}}`, "true false true", ""},
		{`{{$t := list "a" "b"}}{{containsAny (list "c" "a") $t}} {{containsAny (list "c") $t}} {{containsAny (list) $t}}`, "true false false", ""},
		{`{{$t := list "a" "b"}}{{containsNone (list "c") $t}} {{containsNone (list "c" "a") $t}} {{containsNone (list) $t}}`, "true false true", ""},
		{`{{$t := list "a" "b"}}{{containsNotAll (list "a" "c") $t}} {{containsNotAll (list "a") $t}} {{containsNotAll (list) $t}}`, "true false false", ""},
		{`{{with index (service "web") 0}}{{containsAll (split "," "prod,green") .Tags}}{{end}}`, "true", ""},
		{`{{containsAll "a" "abc"}}`, "", "wanted a list"},
	})
}

func TestMapHelpers(t *testing.T) {
	const maps = `{{$a := parseJSON "{\"x\":1,\"m\":{\"p\":1},\"e\":\"\"}"}}{{$b := parseJSON "{\"x\":2,\"y\":3,\"m\":{\"p\":2,\"q\":2},\"e\":\"b\"}"}}`
	checkExprs(t, []exprCase{
		{maps + `{{mergeMap $a $b | toJSON}}{{$a | toJSON}}`, `{"e":"b","m":{"p":1,"q":2},"x":1,"y":3}{"e":"","m":{"p":1},"x":1}`, ""},
		{maps + `{{mergeMapWithOverride $a $b | toJSON}}`, `{"e":"b","m":{"p":2,"q":2},"x":2,"y":3}`, ""},
		{maps + `{{mergeMapWithOverride $b $a | toJSON}}`, `{"e":"","m":{"p":1,"q":2},"x":1,"y":3}`, ""},
		{maps + `{{$b | mergeMap $a | toJSON}}`, `{"e":"b","m":{"p":1,"q":2},"x":1,"y":3}`, ""},
	})
}

func TestMathHelpers(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{add 1 2}} {{1 | add 2}} {{add 1 2.5}} {{add (parseUint "1") 2}} {{add (parseInt "1") (parseFloat "0.5")}}`, "3 3 3.5 3 1.5", ""},
		{`{{subtract 2 5}} {{5 | subtract 2}} {{subtract 0.5 2}}`, "3 3 1.5", ""},
		{`{{multiply 2 3}} {{2 | multiply 2.5}}`, "6 5", ""},
		{`{{divide 2 10}} {{10 | divide 4}} {{divide 4.0 10}}`, "5 2 2.5", ""},
		{`{{modulo 2 5}} {{5 | modulo 3}}`, "1 2", ""},
		{`{{minimum 2 5}} {{5 | minimum 2}} {{minimum 5 2.5}} {{maximum 2 5}} {{5 | maximum 2}} {{maximum -1 -2}}`, "2 2 2.5 5 5 -1", ""},
		{`{{len (service "web") | add 1}}`, "3", ""},
		{`{{divide 0 1}}`, "", "divide: 1 by zero"},
		{`{{modulo 0 1}}`, "", "modulo: 1 by zero"},
		{`{{modulo 1.5 1}}`, "", "modulo: 1 and 1.5 are not both integers"},
		{`{{add "1" 2}}`, "", "add: 2 (int) and 1 (string) are not both numbers"},
		{`{{minimum nil 2}}`, "", "minimum: 2 (int) and <nil> (<nil>) are not both numbers"},
	})
}

func TestFlowHelpers(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{range loop 3}}{{.}}{{end}} {{range $i := loop 5 8}}{{$i}}{{end}}`, "012 567", ""},
		{`{{range $i, $n := loop 5 7}}{{$i}}={{$n}} {{end}}`, "0=5 1=6 ", ""},
		{`{{range loop ("3" | parseInt)}}{{.}}{{end}}{{range loop (len "ab")}}{{.}}{{end}}{{range loop (index (parseJSON "[2]") 0)}}{{.}}{{end}}`, "0120101", ""},
		{`{{range loop 0}}x{{else}}none{{end}}{{range loop 3 1}}x{{else}}none{{end}}`, "nonenone", ""},
		{`{{loop}}`, "", "loop: wrong number of arguments"},
		{`{{loop 1.5}}`, "", "loop: 1.5 (float64) is not an integer"},
		{`{{loop -9223372036854775807 9223372036854775807}}`, "", "steps"},
		{`{{define "c"}}c={{.}};{{end}}{{executeTemplate "c"}}{{executeTemplate "c" 42}}{{$v := executeTemplate "c" "x"}}{{$v | toUpper}}`, "c=<no value>;c=42;C=X;", ""},
		{`{{define "s"}}{{range service .}}{{.ID}} {{end}}{{end}}{{executeTemplate "s" "web"}}{{template "s" "cache"}}`, "web-1 web-2 cache-1 ", ""},
		{`{{executeTemplate "none"}}`, "", `executeTemplate: no template "none" is defined`},
		{`{{define "r"}}{{executeTemplate "r"}}{{end}}{{executeTemplate "r"}}`, "", "executes itself too deeply"},
		{`{{scratch.Key "a"}} {{scratch.Get "a"}} {{scratch.Set "a" 1}}{{scratch.Key "a"}} {{scratch.Get "a"}}`, "false <no value> true 1", ""},
		{`{{scratch.SetX "a" 1}}{{scratch.SetX "a" 2}}{{scratch.Get "a"}}`, "1", ""},
		{`{{scratch.Set "a" nil}}{{scratch.SetX "a" 2}}{{scratch.Key "a"}} {{scratch.Get "a"}}`, "true <no value>", ""},
		{`{{scratch.MapSet "m" "b" 2}}{{scratch.MapSetX "m" "b" 3}}{{scratch.MapSetX "m" "a" 1}}{{scratch.MapValues "m" | join ","}} {{scratch.MapValues "none" | len}}`, "1,2 0", ""},
		{`{{scratch.Set "m" 1}}{{scratch.MapSet "m" "a" 1}}`, "", `scratch: "m" holds a int, not a map`},
		{`{{define "t"}}{{scratch.Set "from" "inside"}}{{end}}{{template "t"}}{{scratch.Get "from"}}`, "inside", ""},
	})
}

func TestSprig(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{"abc" | sprig_upper}} {{"abc" | upper}} {{default "d" ""}} {{list 1 2 | sprig_join "-"}} {{ternary "y" "n" true}}`, "ABC ABC d 1-2 y", ""},
		{`{{slice "abcd" 1 3}} {{sprig_slice (list 1 2 3) 1 | join ","}}`, "bc 2,3", ""}, // Go's own, sprig's
		{`{{"a.b" | split "." | join ","}} {{("a.b" | sprig_split ".")._1}}`, "a,b b", ""},
		{`{{range loop 20}}{{keys (dict "b" 1 "a" 2 "c" 3) | join ""}}{{values (dict "b" 1 "a" 2 "c" 3) | join ""}}{{end}}`, strings.Repeat("abc213", 20), ""},
		{`{{keys (dict "b" 1) (dict "a" 2) | join ""}}`, "ba", ""},
		{`{{now | date "2006" | len}} {{randAlpha 5 | len}} {{uuidv4 | len}}`, "4 5 36", ""},
		{`{{fail "no backends"}}`, "", "no backends"},
	})
	for name := range sprig.TxtFuncMap() {
		if helpers()["sprig_"+name] == nil || helpers()[name] == nil && name != "slice" && newPass(t.Context(), nil, Options{}).table()[name] == nil {
			t.Errorf("sprig's %s is missing", name)
		}
	}
}

// TestNames: every function that a template for the reference may call is there,
// and what needs another server says so.
func TestNames(t *testing.T) {
	const names = `key keyExists keyOrDefault ls safeLs tree safeTree service services node nodes datacenters file
		env mustEnv envOrDefault base64Decode base64Encode base64URLDecode base64URLEncode sha256Hex md5sum hmacSHA256Hex
		byKey byTag byPort byMeta contains containsAll containsAny containsNone containsNotAll in explode explodeMap
		mergeMap mergeMapWithOverride splitToMap indent join split trim trimPrefix trimSuffix trimSpace replaceAll
		regexMatch regexReplaceAll toLower toUpper toTitle parseBool parseFloat parseInt parseUint parseJSON parseYAML
		toJSON toJSONPretty toUnescapedJSON toUnescapedJSONPretty toYAML toTOML add subtract multiply divide modulo
		minimum maximum executeTemplate loop scratch timestamp plugin sockaddr writeToFile spew_dump spew_sdump
		spew_printf spew_sprintf`
	for name := range strings.FieldsSeq(names) {
		if _, err := Parse(name, "{{"+name+"}}", Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct{ name, needs string }{
		{"secret", "Vault"}, {"secrets", "Vault"}, {"pkiCert", "Vault"}, {"nomadServices", "Nomad"}, {"nomadService", "Nomad"},
		{"nomadVarList", "Nomad"}, {"nomadVarListSafe", "Nomad"}, {"nomadVar", "Nomad"}, {"nomadVarExists", "Nomad"},
		{"connect", "mesh"}, {"caRoots", "mesh"}, {"caLeaf", "mesh"}, {"peerings", "enterprise"}, {"partitions", "enterprise"},
		{"exportedServices", "enterprise"}, {"importedServices", "enterprise"},
	} {
		_, err := eval(t, "{{with "+c.name+` "x" "y"}}{{.Data}}{{end}}`, Options{})
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.name+" needs ") ||
			!strings.Contains(err.Error(), c.needs) || !strings.Contains(err.Error(), "not supported by muster") {
			t.Errorf("%s: %v", c.name, err)
		}
		if got, err := eval(t, "{{if false}}{{"+c.name+"}}{{end}}ok", Options{}); got != "ok" || err != nil {
			t.Errorf("%s that is not called: %v", c.name, err)
		}
	}
}
