package httpapi

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-bexpr/grammar"

	"github.com/muster-dev/muster/pkg/api"
)

// Bounds of a filter: its length, and the steps its parser may take.
const (
	maxFilterLen   = 16 << 10
	maxFilterSteps = 200_000
)

// filter keeps the rows that an expression is true of. A nil one keeps all.
//
// Parsing is go-bexpr's. The expression is then checked against the row's type,
// once, and compiled to a function: unknown selectors and operators that do not
// fit are errors whatever the rows hold, and a selector that runs through a list
// (Checks.Status) asks whether any element matches, as the reference does.
type filter[T any] struct{ match func(reflect.Value) bool }

// filterFor compiles the request's filter for rows of type T.
func filterFor[T any](rq *request) (*filter[T], error) {
	expr := rq.param("filter")
	if expr == "" {
		return nil, nil
	}
	match, err := compileFilter(expr, reflect.TypeFor[T]())
	if err != nil {
		return nil, serverError("Failed to create boolean expression evaluator: %v", err)
	}
	return &filter[T]{match}, nil
}

func (f *filter[T]) one(row T) bool { return f == nil || f.match(reflect.ValueOf(row)) }

// rows returns an empty list rather than nil.
func (f *filter[T]) rows(all []T) []T {
	if f == nil {
		return list(all)
	}
	kept := []T{}
	for _, row := range all {
		if f.one(row) {
			kept = append(kept, row)
		}
	}
	return kept
}

type predicate func(reflect.Value) bool

func compileFilter(expr string, t reflect.Type) (predicate, error) {
	if len(expr) > maxFilterLen {
		return nil, fmt.Errorf("filter of %d bytes is longer than %d", len(expr), maxFilterLen)
	}
	tree, err := grammar.Parse("", []byte(expr), grammar.MaxExpressions(maxFilterSteps))
	if err != nil {
		return nil, err
	}
	return compileNode(tree.(grammar.Expression), t)
}

func compileNode(node grammar.Expression, t reflect.Type) (predicate, error) {
	switch n := node.(type) {
	case *grammar.UnaryExpression:
		inner, err := compileNode(n.Operand, t)
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value) bool { return !inner(v) }, nil
	case *grammar.BinaryExpression:
		left, err := compileNode(n.Left, t)
		if err != nil {
			return nil, err
		}
		right, err := compileNode(n.Right, t)
		if err != nil {
			return nil, err
		}
		if n.Operator == grammar.BinaryOpAnd {
			return func(v reflect.Value) bool { return left(v) && right(v) }, nil
		}
		return func(v reflect.Value) bool { return left(v) || right(v) }, nil
	case *grammar.MatchExpression:
		return compileMatch(n, t)
	}
	return nil, fmt.Errorf("collection expressions (any, all) are not supported")
}

// operator is a match operator; that it is negated is kept apart.
type operator uint8

const (
	opEqual operator = iota
	opIn
	opEmpty
	opMatches
)

func compileMatch(n *grammar.MatchExpression, t reflect.Type) (predicate, error) {
	op, negated := opEqual, false
	switch n.Operator {
	case grammar.MatchEqual:
	case grammar.MatchNotEqual:
		negated = true
	case grammar.MatchIn, grammar.MatchContains:
		op = opIn
	case grammar.MatchNotIn, grammar.MatchNotContains:
		op, negated = opIn, true
	case grammar.MatchIsEmpty:
		op = opEmpty
	case grammar.MatchIsNotEmpty:
		op, negated = opEmpty, true
	case grammar.MatchMatches:
		op = opMatches
	case grammar.MatchNotMatches:
		op, negated = opMatches, true
	default:
		return nil, invalidOperator(n)
	}
	raw := ""
	if n.Value != nil {
		raw = n.Value.Raw
	}
	m := match{expr: n, op: op, negated: negated, raw: raw}
	return m.walk(t, n.Selector.Path)
}

func invalidOperator(n *grammar.MatchExpression) error {
	return fmt.Errorf("Invalid match operator %q for selector %q", n.Operator.String(), n.Selector.String())
}

// match compiles one comparison.
type match struct {
	expr    *grammar.MatchExpression
	op      operator
	negated bool
	raw     string
}

// walk follows the selector through the type. A negated operator is negated at
// the leaf, so that through a list it asks for any element that does not match.
func (m match) walk(t reflect.Type, path []string) (predicate, error) {
	if isNativeConnect(path) {
		return m.leafOf(reflect.TypeFor[bool](), func(reflect.Value) reflect.Value { return reflect.ValueOf(false) })
	}
	switch t.Kind() {
	case reflect.Pointer:
		inner, err := m.walk(t.Elem(), path)
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value) bool { return !v.IsNil() && inner(v.Elem()) }, nil
	case reflect.Struct:
		return m.walkStruct(t, path)
	case reflect.Map:
		if len(path) > 0 {
			return m.walkMap(t, path)
		}
	case reflect.Slice:
		if len(path) > 0 {
			return m.walkSlice(t, path)
		}
	default:
		if len(path) > 0 {
			return nil, m.invalidSelector()
		}
	}
	return m.leafOf(t, func(v reflect.Value) reflect.Value { return v })
}

func (m match) invalidSelector() error {
	return fmt.Errorf("Selector %q is not valid", m.expr.Selector.String())
}

// isNativeConnect: the mesh's flag can be asked for, and is never set here.
func isNativeConnect(path []string) bool {
	return len(path) == 2 && (path[0] == "Connect" || path[0] == "ServiceConnect") && path[1] == "Native"
}

func (m match) walkStruct(t reflect.Type, path []string) (predicate, error) {
	if len(path) == 0 {
		return nil, m.invalidSelector()
	}
	field, ok := t.FieldByName(path[0])
	if !ok || unfilterable(path[0]) {
		return nil, m.invalidSelector()
	}
	inner, err := m.walk(field.Type, path[1:])
	if err != nil {
		return nil, err
	}
	return func(v reflect.Value) bool { return inner(v.FieldByIndex(field.Index)) }, nil
}

// unfilterable are the fields that no selector names.
func unfilterable(field string) bool {
	return slices.Contains([]string{"CreateIndex", "ModifyIndex", "ContentHash", "Definition", "PeerName", "ServiceLocality"}, field)
}

// walkMap looks a key up. Of one that is not there, the negated operators are true.
func (m match) walkMap(t reflect.Type, path []string) (predicate, error) {
	if m.op == opEmpty && len(path) == 1 && t.Elem().Kind() == reflect.String {
		return nil, invalidOperator(m.expr)
	}
	inner, err := m.walk(t.Elem(), path[1:])
	if err != nil {
		return nil, err
	}
	key, missing := reflect.ValueOf(path[0]), m.negated
	return func(v reflect.Value) bool {
		at := v.MapIndex(key)
		if !at.IsValid() {
			return missing
		}
		return inner(at)
	}, nil
}

func (m match) walkSlice(t reflect.Type, path []string) (predicate, error) {
	inner, err := m.walk(t.Elem(), path)
	if err != nil {
		return nil, err
	}
	return func(v reflect.Value) bool {
		for i := range v.Len() {
			if inner(v.Index(i)) {
				return true
			}
		}
		return false
	}, nil
}

// leafOf compiles the comparison of what the selector leads to.
func (m match) leafOf(t reflect.Type, get func(reflect.Value) reflect.Value) (predicate, error) {
	test, err := m.leaf(t)
	if err != nil {
		return nil, err
	}
	negated := m.negated
	return func(v reflect.Value) bool { return test(get(v)) != negated }, nil
}

func (m match) leaf(t reflect.Type) (predicate, error) {
	kind := t.Kind()
	switch {
	case m.op == opEmpty && (kind == reflect.String || kind == reflect.Map || kind == reflect.Slice):
		return func(v reflect.Value) bool { return v.Len() == 0 }, nil
	case m.op == opEqual:
		return m.equal(t)
	case m.op == opMatches && kind == reflect.String:
		re, err := regexp.Compile(m.raw)
		if err != nil {
			return nil, fmt.Errorf("failed to compile regular expression %q: %w", m.raw, err)
		}
		return func(v reflect.Value) bool { return re.MatchString(v.String()) }, nil
	case m.op == opIn && kind == reflect.String:
		return func(v reflect.Value) bool { return strings.Contains(v.String(), m.raw) }, nil
	case m.op == opIn && kind == reflect.Map:
		key := reflect.ValueOf(m.raw)
		return func(v reflect.Value) bool { return v.MapIndex(key).IsValid() }, nil
	case m.op == opIn && kind == reflect.Slice && t.Elem().Kind() == reflect.String:
		return func(v reflect.Value) bool {
			for i := range v.Len() {
				if v.Index(i).String() == m.raw {
					return true
				}
			}
			return false
		}, nil
	}
	return nil, invalidOperator(m.expr)
}

// equal compares scalars; the wanted value must be one of the selector's kind.
func (m match) equal(t reflect.Type) (predicate, error) {
	switch {
	case t == reflect.TypeFor[api.Duration]():
	case t.Kind() == reflect.String:
		return func(v reflect.Value) bool { return v.String() == m.raw }, nil
	case t.Kind() == reflect.Bool:
		want, err := strconv.ParseBool(m.raw)
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value) bool { return v.Bool() == want }, nil
	case reflect.New(t).Elem().CanInt():
		want, err := strconv.ParseInt(m.raw, 0, 64)
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value) bool { return v.Int() == want }, nil
	case reflect.New(t).Elem().CanUint():
		want, err := strconv.ParseUint(m.raw, 0, 64)
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value) bool { return v.Uint() == want }, nil
	}
	return nil, invalidOperator(m.expr)
}
