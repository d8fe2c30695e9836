package conf

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// Decode fills the struct that out points to from a map that Check has returned, or one
// that the program made itself. It ignores keys without a field: Check reports them.
func Decode(m map[string]any, out any) error {
	v := reflect.ValueOf(out)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("decode config: %T is not a pointer to a struct", out)
	}
	return decode("", m, v.Elem())
}

func decode(path string, v any, out reflect.Value) error {
	if v == nil {
		return nil
	}
	t := out.Type()
	if rv := reflect.ValueOf(v); rv.Type().AssignableTo(t) && t.Kind() != reflect.Map {
		out.Set(rv)
		return nil
	}
	switch {
	case t.Kind() == reflect.Pointer:
		if out.IsNil() {
			out.Set(reflect.New(t.Elem()))
		}
		return decode(path, v, out.Elem())
	case isObject(t):
		m, ok := asObject(v)
		if !ok {
			return fmt.Errorf("%s: an object is needed here, not %s", path, describe(v))
		}
		return decodeObject(path, m, out)
	case t.Kind() == reflect.Slice && !isLeaf(t):
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		slice := reflect.MakeSlice(t, len(list), len(list))
		for i, element := range list {
			if err := decode(fmt.Sprintf("%s[%d]", path, i), element, slice.Index(i)); err != nil {
				return err
			}
		}
		out.Set(slice)
		return nil
	}
	leaf, err := convert(v, t)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	out.Set(leaf)
	return nil
}

func decodeObject(path string, m map[string]any, out reflect.Value) error {
	if t := out.Type(); t.Kind() == reflect.Map {
		object := reflect.MakeMapWithSize(t, len(m))
		for key, v := range m {
			element := reflect.New(t.Elem()).Elem()
			if err := decode(join(path, key), v, element); err != nil {
				return err
			}
			object.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), element)
		}
		out.Set(object)
		return nil
	}
	fields := fieldsOf(out.Type())
	for key, v := range m {
		fl, ok := findField(fields, key)
		if !ok || fl.ignored || fl.silent {
			continue
		}
		if err := decode(join(path, fl.name()), v, out.FieldByIndex(fl.index)); err != nil {
			return err
		}
	}
	return nil
}

// convert converts v to the scalar type t. A number or boolean may be quoted, and a
// string may be a number, because the formats differ in what they quote.
func convert(v any, t reflect.Type) (reflect.Value, error) {
	out := reflect.New(t).Elem()
	if rv := reflect.ValueOf(v); rv.Type() == t {
		return rv, nil
	}
	if isDuration(t) {
		d, err := convertDuration(v)
		out.SetInt(int64(d))
		return out, err
	}
	if text, ok := out.Addr().Interface().(encoding.TextUnmarshaler); ok {
		s, ok := v.(string)
		if !ok {
			return out, fmt.Errorf("%s must be written as a string", describe(v))
		}
		return out, text.UnmarshalText([]byte(s))
	}
	switch {
	case t.Kind() == reflect.String:
		return out, setString(out, v)
	case t.Kind() == reflect.Bool:
		return out, setBool(out, v)
	case out.CanInt() || out.CanUint():
		return out, setInt(out, v)
	case out.CanFloat():
		return out, setFloat(out, v)
	}
	return out, fmt.Errorf("a setting of type %s cannot be read", t)
}

func convertDuration(v any) (time.Duration, error) {
	if s, ok := v.(string); ok {
		if s == "" {
			return 0, nil
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf(`%q is not a duration: write a number with a unit, such as "10s"`, s)
		}
		return d, nil
	}
	if n, ok := v.(int64); ok && n == 0 {
		return 0, nil
	}
	return 0, fmt.Errorf(`%s is not a duration: write a string with a unit, such as "10s"`, describe(v))
}

func setString(out reflect.Value, v any) error {
	switch v := v.(type) {
	case string:
		out.SetString(v)
	case bool, int64, float64, int:
		out.SetString(fmt.Sprint(v))
	default:
		return fmt.Errorf("a string is needed here, not %s", describe(v))
	}
	return nil
}

func setBool(out reflect.Value, v any) error {
	switch v := v.(type) {
	case bool:
		out.SetBool(v)
		return nil
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			out.SetBool(b)
			return nil
		}
	}
	return fmt.Errorf("true or false is needed here, not %s", describe(v))
}

func setInt(out reflect.Value, v any) error {
	n, ok := asInt(v)
	if !ok {
		return fmt.Errorf("a whole number is needed here, not %s", describe(v))
	}
	outOfRange := errors.New("number " + strconv.FormatInt(n, 10) + " is out of range")
	if out.CanInt() {
		if out.OverflowInt(n) {
			return outOfRange
		}
		out.SetInt(n)
		return nil
	}
	if n < 0 || out.OverflowUint(uint64(n)) {
		return outOfRange
	}
	out.SetUint(uint64(n))
	return nil
}

func asInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int:
		return int64(v), true
	case float64: // 2^63 itself is a float64, but no int64
		return int64(v), v == math.Trunc(v) && v >= math.MinInt64 && v < math.MaxInt64
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	}
	return 0, false
}

func setFloat(out reflect.Value, v any) error {
	switch v := v.(type) {
	case float64:
		out.SetFloat(v)
		return nil
	case int64:
		out.SetFloat(float64(v))
		return nil
	case int:
		out.SetFloat(float64(v))
		return nil
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			out.SetFloat(f)
			return nil
		}
	}
	return fmt.Errorf("a number is needed here, not %s", describe(v))
}
