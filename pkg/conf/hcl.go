package conf

import (
	"fmt"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/token"
)

// parseHCL walks the syntax tree itself, because the library's own decoding into
// a map cannot tell a list of one object from an object.
func parseHCL(data []byte) (_ map[string]any, err error) {
	defer recoverPanic(&err) // the library panics, for example, on a number that is too large
	file, err := parser.Parse(data)
	if err != nil {
		return nil, err
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, fmt.Errorf("an object with keys is needed")
	}
	m, err := hclObject(list)
	if err != nil {
		return nil, err
	}
	return normalizeObject(m) // for the limit on nesting: labels nest without brackets
}

func hclObject(list *ast.ObjectList) (map[string]any, error) {
	out := make(map[string]any, len(list.Items))
	for _, item := range list.Items {
		value, err := hclValue(item.Val)
		if err != nil {
			return nil, err
		}
		if len(item.Keys) == 0 {
			return nil, fmt.Errorf("at %s: a key is missing", item.Val.Pos())
		}
		// service "web" { ... } is service { web { ... } }
		for i := len(item.Keys) - 1; i > 0; i-- {
			value = map[string]any{hclKey(item.Keys[i]): []any{value}}
		}
		hclAdd(out, hclKey(item.Keys[0]), value)
	}
	return out, nil
}

// hclAdd collects objects of the same key in a list; of other values the last one counts.
func hclAdd(out map[string]any, key string, value any) {
	object, isObject := value.(map[string]any)
	if !isObject {
		out[key] = value
		return
	}
	if before, ok := out[key].([]any); ok && len(before) > 0 {
		if _, ok := before[0].(map[string]any); ok {
			out[key] = append(before, object)
			return
		}
	}
	out[key] = []any{object}
}

func hclKey(key *ast.ObjectKey) string { return fmt.Sprint(key.Token.Value()) }

func hclValue(node ast.Node) (any, error) {
	switch node := node.(type) {
	case *ast.LiteralType:
		if node.Token.Type == token.NUMBER || node.Token.Type == token.FLOAT ||
			node.Token.Type == token.BOOL || node.Token.Type == token.STRING || node.Token.Type == token.HEREDOC {
			return node.Token.Value(), nil
		}
		return nil, fmt.Errorf("at %s: %q is not a value", node.Pos(), node.Token.Text)
	case *ast.ListType:
		out := make([]any, len(node.List))
		for i, element := range node.List {
			value, err := hclValue(element)
			if err != nil {
				return nil, err
			}
			out[i] = value
		}
		return out, nil
	case *ast.ObjectType:
		return hclObject(node.List)
	}
	return nil, fmt.Errorf("at %s: this cannot be used as a value", node.Pos())
}
