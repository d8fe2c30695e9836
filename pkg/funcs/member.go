package funcs

import (
	"fmt"
	"reflect"
	"strings"
)

// in reports whether v is an element of list, or a part of it if list is a string. It is
// false if list is neither a list nor a string.
func in(list, v any) bool {
	l := reflect.ValueOf(list)
	switch l.Kind() {
	case reflect.String:
		part := reflect.ValueOf(v)
		return part.Kind() == reflect.String && strings.Contains(l.String(), part.String())
	case reflect.Slice, reflect.Array:
		for i := range l.Len() {
			if same(l.Index(i), reflect.ValueOf(v)) {
				return true
			}
		}
	}
	return false
}

// same compares by value: numbers of different types are equal if their values
// are, as are strings.
func same(a, b reflect.Value) bool {
	for a.IsValid() && a.Kind() == reflect.Interface {
		a = a.Elem()
	}
	switch {
	case !a.IsValid() || !b.IsValid():
		return a.IsValid() == b.IsValid()
	case isNumber(a) && isNumber(b):
		order, ok := compareNumbers(a, b)
		return ok && order == 0
	case a.Kind() == reflect.String && b.Kind() == reflect.String:
		return a.String() == b.String()
	default:
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
}

func containsAll(wanted, list any) (bool, error) {
	missing, err := anyOf(wanted, list, false)
	return !missing, err
}

func containsAny(wanted, list any) (bool, error) { return anyOf(wanted, list, true) }

func containsNone(wanted, list any) (bool, error) {
	found, err := anyOf(wanted, list, true)
	return !found, err
}

func containsNotAll(wanted, list any) (bool, error) { return anyOf(wanted, list, false) }

// anyOf reports whether list contains (or lacks, if present is false) some element of
// wanted.
func anyOf(wanted, list any, present bool) (bool, error) {
	w := reflect.ValueOf(wanted)
	if !w.IsValid() {
		return false, nil
	}
	if w.Kind() != reflect.Slice && w.Kind() != reflect.Array {
		return false, fmt.Errorf("wanted a list, not %v (%T)", wanted, wanted)
	}
	for i := range w.Len() {
		if in(list, w.Index(i).Interface()) == present {
			return true, nil
		}
	}
	return false, nil
}
