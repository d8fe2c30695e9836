package funcs

import "testing"

// doc is what the tables below read: whole numbers on both sides of 2^53 and of 2^63.
const doc = `{{$j := parseJSON "{\"ttl\":2592000,\"neg\":-7,\"zero\":0,\"big\":9007199254740993,\"min\":-9223372036854775808,\"id\":12345678901234567890,\"f\":1.5,\"e\":1e3,\"l\":[1,2]}"}}`

// Whole numbers of JSON stay whole. Where consul-template prints them as floats
// (2.592e+06) this differs on purpose; what a template does to work around that
// ("%.0f", a comparison with 5.0) still works.
func TestWholeNumbersStayWhole(t *testing.T) {
	cases := []exprCase{
		{`{{$j.ttl}} {{$j.neg}} {{$j.zero}} {{$j.big}} {{$j.min}} {{$j.id}} {{$j.f}} {{$j.e}} {{$j.l}}`,
			"2592000 -7 0 9007199254740993 -9223372036854775808 12345678901234567890 1.5 1000 [1 2]", ""},
		{`{{printf "%d %v %s %.0f %5d %05d %x|" $j.ttl $j.ttl $j.ttl $j.ttl $j.neg $j.neg $j.ttl}}`, "2592000 2592000 2592000 2592000    -7 -0007 278d00|", ""},
		{`{{printf "%d %v %.0f" $j.big $j.big $j.big}} {{printf "%d %v" $j.id $j.id}}`, "9007199254740993 9007199254740993 9007199254740992 12345678901234567890 12345678901234567890", ""},
		{`{{print $j.ttl}} {{$j.l | join ","}} {{print "a" $j.big "b"}}`, "2592000 1,2 a9007199254740993b", ""},
		{`{{if gt $j.ttl 5.0}}gt{{end}} {{if eq $j.ttl 2592000.0}}eq{{end}} {{if $j.zero}}set{{else}}zero{{end}} {{if $j.big}}set{{end}}`, "gt eq zero set", ""},
		{`{{$j | toJSON}}`, `{"big":9007199254740993,"e":1000,"f":1.5,"id":12345678901234567890,"l":[1,2],"min":-9223372036854775808,"neg":-7,"ttl":2592000,"zero":0}`, ""},
		{`{{$j.l | toJSONPretty}} {{$j.id | toUnescapedJSON}} {{$j.big | toUnescapedJSONPretty}} {{$j.ttl | toJson}}`, "[\n  1,\n  2\n] 12345678901234567890 9007199254740993 2592000", ""},
		{`{{$j | toYAML}}`, "big: 9007199254740993\ne: 1000\nf: 1.5\nid: 12345678901234567890\nl:\n- 1\n- 2\nmin: -9223372036854775808\nneg: -7\nttl: 2592000\nzero: 0", ""},
		{`{{$j | toTOML}}`, "big = 9007199254740993\ne = 1000.0\nf = 1.5\nid = 12345678901234567890\nl = [1, 2]\nmin = -9223372036854775808\nneg = -7\nttl = 2592000\nzero = 0", ""},
		{`{{add $j.ttl 1}} {{subtract 1 $j.ttl}} {{multiply $j.ttl 2}} {{divide 2 $j.ttl}} {{add $j.big 1}} {{subtract $j.neg $j.ttl}}`,
			"2592001 2591999 5184000 1296000 9007199254740994 2592007", ""},
		{`{{divide 2 $j.neg}} {{divide $j.neg 2}} {{divide $j.ttl 0}} {{divide $j.zero 1}} {{add $j.f $j.ttl | printf "%.1f"}} {{add $j.ttl 0.5 | printf "%.1f"}}`,
			"-3.5 -0.2857142857142857 0 +Inf 2592001.5 2592000.5", ""},
		{`{{modulo 7 $j.ttl}} {{minimum $j.ttl 3}} {{maximum $j.ttl 3}} {{maximum $j.big 1}} {{multiply $j.min 2}}`, "5 3 2592000 9007199254740993 -1.8446744073709552e+19", ""},
		{`{{modulo $j.zero 7}}`, "", "modulo: 7 by zero"},
		{`{{add $j.id 1}}`, "", "are not both numbers"},
		{`{{range loop $j.l}}{{end}}`, "", "is not an integer"},
		{`{{range loop (index $j.l 1)}}{{.}}{{end}} {{in $j.l 2}} {{$j.l | contains 2.0}} {{in $j.l "2"}}`, "01 true true false", ""},
		{`{{int $j.ttl}} {{int64 $j.big}} {{toString $j.ttl}} {{quote $j.ttl}} {{default 5 $j.zero}} {{default 5 $j.ttl}} {{max $j.ttl 5}} {{kindOf $j.ttl}}`,
			`2592000 9007199254740993 2592000 "2592000" 5 2592000 2592000 float64`, ""},
		{`{{(mergeMap (dict) $j).ttl}} {{scratch.Set "n" $j.ttl}}{{scratch.Get "n"}}`, "2592000 2592000", ""},
	}
	for i := range cases {
		cases[i].text = doc + cases[i].text
	}
	checkExprs(t, append(cases, []exprCase{
		{`{{with parseYAML "a: 2592000\nb: 9007199254740993\nc: 18446744073709551615"}}{{.a}} {{.b}} {{.c}} {{toJSON .}} {{toTOML .}}{{end}}`,
			"2592000 9007199254740993 18446744073709551615 {\"a\":2592000,\"b\":9007199254740993,\"c\":18446744073709551615} a = 2592000\nb = 9007199254740993\nc = 18446744073709551615", ""},
		{`{{parseJSON "2592000"}} {{parseJSON "[2592000]"}} {{parseJSON " -0 "}} {{parseJSON "9223372036854775808"}}`, "2592000 [2592000] 0 9223372036854775808", ""},
		{`{{parseJSON "1e999"}}`, "", "parseJSON: "},
		{`{{parseJSON "1 2"}}`, "", "parseJSON: invalid character '2' after top-level value"},
		{`{{parseJSON "01"}}`, "", "parseJSON: "},
	}...))
}

// A text that is a number counts for loop, as in consul-template, which reads it as parseInt
// does; no other function takes one for a number.
func TestTextsThatAreNumbers(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{range loop (key "app/port" | trimSuffix "080")}}{{.}}{{end}} {{range loop "2" (key "groups/b/x")}}{{.}}{{end}}`, "01234567 2", ""},
		{`{{range loop "" "2"}}{{.}}{{end}} {{range loop ""}}x{{else}}none{{end}} {{range loop (key "app/empty")}}x{{else}}none{{end}}`, "01 none none", ""},
		{`{{range loop "1.0"}}{{end}}`, "", `loop: strconv.ParseInt: parsing "1.0"`},
		{`{{range loop " 3"}}{{end}}`, "", `parsing " 3"`},
		{`{{range loop nil}}{{end}}`, "", "loop: <nil> (<nil>) is not an integer"},
		{`{{range loop true}}{{end}}`, "", "loop: true (bool) is not an integer"},
		{`{{range loop 2.5}}{{end}}`, "", "loop: 2.5 (float64) is not an integer"},
		{`{{indent "2" "a"}}`, "", "indent: 2 (string) is not an integer"},
		{`{{add "1" 2}}`, "", "add: 2 (int) and 1 (string) are not both numbers"},
		{`{{5 | divide "2"}}`, "", "not both numbers"},
		{`{{modulo "2" 5}}`, "", "not both numbers"},
		{`{{maximum "2" 5}}`, "", "not both numbers"},
	})
}

// What YAML 1.1 and consul-template's maps cannot do and ours can: maps whose keys are all
// texts go into JSON, TOML and the functions for maps.
func TestYAMLMapsAreUsable(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{parseYAML "a:\n  b: no\n  d: 2020-01-01" | toJSON}}`, `{"a":{"b":false,"d":"2020-01-01"}}`, ""},
		{`{{parseYAML "a: [{b: 1}]" | toTOML}}`, "[[a]]\n  b = 1", ""},
		{`{{mergeMap (parseYAML "a: {b: 1}") (parseYAML "a: {c: 2}") | toJSON}}`, `{"a":{"b":1,"c":2}}`, ""},
		{`{{with parseYAML "a: {1: x, no: v, z: 2}"}}{{.a.z}}{{index .a 1}}{{index .a false}}{{end}}`, "2xv", ""},
		{`{{parseYAML "1: a" | toJSON}}`, "", "unsupported type: map[interface {}]interface {}"},
	})
}
