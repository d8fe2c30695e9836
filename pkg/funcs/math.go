package funcs

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
)

// The second argument is the left operand: 10 | divide 2 is 5. Two integers give
// an integer, a float among them gives a float. A whole number of JSON counts as a float
// for divide (2.5 is half of its 5), and stays whole wherever the result is.

func add(b, a any) (any, error) {
	return arith("add", a, b, func(x, y int64) int64 { return x + y }, func(x, y float64) float64 { return x + y })
}

func subtract(b, a any) (any, error) {
	return arith("subtract", a, b, func(x, y int64) int64 { return x - y }, func(x, y float64) float64 { return x - y })
}

func multiply(b, a any) (any, error) {
	return arith("multiply", a, b, func(x, y int64) int64 { return x * y }, func(x, y float64) float64 { return x * y })
}

// divide by an integer that is zero is an error; by a float it is infinite.
func divide(b, a any) (any, error) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if isWhole(a) || isWhole(b) {
		if i, j, ok := wholes(a, b); ok && j != 0 && i%j == 0 {
			return wholeNumber(i / j), nil
		}
		if isNumber(x) && isNumber(y) {
			return asFloat(x) / asFloat(y), nil
		}
	}
	if isNumber(y) && y.IsZero() && isNumber(x) && !x.CanFloat() && !y.CanFloat() {
		return nil, fmt.Errorf("divide: %v by zero", a)
	}
	return arith("divide", a, b, func(x, y int64) int64 { return x / y }, func(x, y float64) float64 { return x / y })
}

func modulo(b, a any) (any, error) {
	if isZero(b) {
		return nil, fmt.Errorf("modulo: %v by zero", a)
	}
	return arith("modulo", a, b, func(x, y int64) int64 { return x % y }, nil)
}

func minimum(b, a any) (any, error) { return pick("minimum", a, b, -1) }
func maximum(b, a any) (any, error) { return pick("maximum", a, b, 1) }

func arith(name string, a, b any, ints func(x, y int64) int64, floats func(x, y float64) float64) (any, error) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if !isNumber(x) || !isNumber(y) {
		return nil, fmt.Errorf("%s: %v (%T) and %v (%T) are not both numbers", name, a, a, b, b)
	}
	if i, j, ok := wholes(a, b); ok && (isWhole(a) || isWhole(b)) {
		if floats == nil || fits(floats(float64(i), float64(j))) {
			return wholeNumber(ints(i, j)), nil
		}
		return floats(float64(i), float64(j)), nil
	}
	if !x.CanFloat() && !y.CanFloat() {
		i, err := number(a)
		j, err2 := number(b)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return ints(i, j), nil
	}
	if floats == nil {
		return nil, fmt.Errorf("%s: %v and %v are not both integers", name, a, b)
	}
	return floats(asFloat(x), asFloat(y)), nil
}

// wholes are two numbers as integers, if both are: a float is none, whatever its value.
func wholes(a, b any) (i, j int64, ok bool) {
	for _, v := range []any{a, b} {
		if r := reflect.ValueOf(v); !isNumber(r) || r.CanFloat() && !isWhole(v) {
			return 0, 0, false
		}
	}
	i, err := number(a)
	j, err2 := number(b)
	return i, j, err == nil && err2 == nil
}

// fits reports whether an int64 can hold the result whose approximation is f.
func fits(f float64) bool { return math.Abs(f) < 1<<62 }

// pick returns a or b, as an int64 or a float64, by how they compare.
func pick(name string, a, b any, sign int) (any, error) {
	order, ok := compareNumbers(reflect.ValueOf(a), reflect.ValueOf(b))
	if !ok {
		return nil, fmt.Errorf("%s: %v (%T) and %v (%T) are not both numbers", name, a, a, b, b)
	}
	if order*sign < 0 {
		a, b = b, a
	}
	return arith(name, a, b, func(x, _ int64) int64 { return x }, func(x, _ float64) float64 { return x })
}

func isNumber(v reflect.Value) bool {
	return v.IsValid() && (v.CanInt() || v.CanUint() || v.CanFloat())
}

func isZero(v any) bool {
	r := reflect.ValueOf(v)
	return isNumber(r) && r.IsZero()
}

func asFloat(v reflect.Value) float64 {
	switch {
	case v.CanInt():
		return float64(v.Int())
	case v.CanUint():
		return float64(v.Uint())
	default:
		return v.Float()
	}
}

// compareNumbers compares integers exactly and everything else as floats.
func compareNumbers(a, b reflect.Value) (order int, ok bool) {
	if !isNumber(a) || !isNumber(b) {
		return 0, false
	}
	switch {
	case a.CanInt() && b.CanInt():
		return cmp.Compare(a.Int(), b.Int()), true
	case a.CanUint() && b.CanUint():
		return cmp.Compare(a.Uint(), b.Uint()), true
	}
	x, y := asFloat(a), asFloat(b)
	if math.IsNaN(x) || math.IsNaN(y) {
		return 0, false
	}
	return cmp.Compare(x, y), true
}
