package funcs

import "testing"

// TestMissingKeys: what a map lacks is the zero value of the map's type, wherever the map
// comes from and wherever in the template it is asked; only a map of anything has no such
// value. The results are consul-template's.
func TestMissingKeys(t *testing.T) {
	checkExprs(t, []exprCase{
		{`{{range service "web|any"}}{{.ID}}=[{{.ServiceMeta.shard}}]{{end}}`, "web-1=[2]web-2=[10]web-3=[]web-4=[]web-5=[]", ""},
		{`{{range service "web|any"}}{{.ServiceMeta.shard | parseInt}} {{end}}`, "2 10 0 0 0 ", ""},
		{`{{range service "web"}}{{.ServiceMeta.none | parseFloat}}{{.ServiceMeta.none | parseBool}}{{.ServiceMeta.none | toUpper}}{{if eq .ServiceMeta.none ""}}e{{end}} {{end}}`,
			"0falsee 0falsee ", ""},
		{`{{range service "web"}}{{index .ServiceMeta "none"}}|{{.NodeMeta.none}}|{{.NodeTaggedAddresses.lan}}{{end}}`, "||||", ""},
		{`{{range service "cache"}}{{.ServiceTaggedAddresses.wan}} {{.ServiceTaggedAddresses.wan.Address}}{{.ServiceTaggedAddresses.wan.Port}}{{end}}`, "{ 0} 0", ""},
		{`{{range nodes}}{{.Meta.rack}}{{.TaggedAddresses.wan}},{{end}}`, "r1,,,", ""},
		{`{{with node}}{{.Node.Meta.rack}}{{range .Services}}{{.Meta.none}}{{.ID}} {{end}}{{end}}`, "cache-1 web-3 ", ""},
		{`{{(service "web" | byTag).none}} {{(service "web" | byMeta "shard").none}} {{(tree "groups" | byKey).none}} {{(tree "groups" | byKey).none.x}}`, "[] [] map[] <nil>", ""},
		{`{{("a=1" | splitToMap "," "=").b}}.`, ".", ""},
		{`{{define "x"}}{{.ServiceMeta.none}}|{{end}}{{range service "web"}}{{executeTemplate "x" .}}{{template "x" .}}{{end}}`, "||||", ""},
		{`{{with tree "app" | explode}}{{.none}} {{.db.none}} {{.db.host}}{{end}}`, "<no value> <no value> 10.0.0.9", ""},
		{`{{with parseJSON "{\"a\":{}}"}}{{.x}} {{.a.x}}{{if .x}}y{{end}}{{.x | sprig_default "d"}}{{end}}`, "<no value> <no value>d", ""},
		{`{{with parseJSON "{\"a\":{}}"}}{{.x.y}}{{end}}`, "", "nil pointer evaluating interface {}.y"},
		{`{{with parseJSON "{\"a\":{}}"}}{{.x | parseInt}}{{end}}`, "", "invalid value; expected string"},
		{`{{(sprig_dict "a" 1).b}}{{scratch.Get "none"}}{{with parseYAML "a: 1"}}{{.b}}{{end}}`, "<no value><no value><no value>", ""},
	})
}
