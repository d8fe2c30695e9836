package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"time"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"
)

func parseJSON(data []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var m map[string]any
	err := dec.Decode(&m)
	if errors.Is(err, io.EOF) {
		return map[string]any{}, nil // an empty file is allowed, as in the other formats
	}
	if err != nil {
		return nil, jsonError(data, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more text after the end of the object", position(data, dec.InputOffset()))
	}
	return normalizeObject(m)
}

// jsonError adds the line, which encoding/json leaves to its callers.
func jsonError(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: %w", position(data, syntax.Offset), err)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: an object is needed here, not %s", position(data, kind.Offset), kind.Value)
	}
	return err
}

func position(data []byte, offset int64) string {
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf("line %d, column %d", line, len(before)-bytes.LastIndexByte(before, '\n')-1)
}

func parseYAML(data []byte) (_ map[string]any, err error) {
	defer recoverPanic(&err)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var v any
	if err := dec.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var more any
	if err := dec.Decode(&more); err == nil {
		return nil, errors.New("more than one YAML document in the file")
	}
	return normalizeObject(v)
}

func parseTOML(data []byte) (_ map[string]any, err error) {
	defer recoverPanic(&err)
	var m map[string]any
	if err := toml.Unmarshal(data, &m); err != nil {
		var detail *toml.DecodeError
		if errors.As(err, &detail) {
			line, column := detail.Position()
			return nil, fmt.Errorf("line %d, column %d: %w", line, column, err)
		}
		return nil, err
	}
	return normalizeObject(m)
}

// recoverPanic turns a panic of a parser into an error: a damaged file must not end
// an agent that reloads.
func recoverPanic(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%v", r)
	}
}

// normalizeObject copies v into a map of the types that Parse promises. Nil is an empty
// object.
func normalizeObject(v any) (map[string]any, error) {
	n, err := normalize(v, 0)
	if err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case nil:
		return map[string]any{}, nil
	case map[string]any:
		return n, nil
	}
	return nil, fmt.Errorf("an object with keys is needed, not %s", describe(n))
}

func normalize(v any, depth int) (any, error) {
	if depth > MaxNesting {
		return nil, errors.New("values are nested too deeply")
	}
	switch v := v.(type) {
	case nil, string, bool, int64, float64:
		return v, nil
	case json.Number:
		return number(v.String())
	case time.Duration:
		return v.String(), nil
	case time.Time: // unquoted dates in YAML and TOML
		return v.Format(time.RFC3339Nano), nil
	case fmt.Stringer: // TOML's local dates and times
		return v.String(), nil
	}
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Map:
		out := make(map[string]any, rv.Len())
		for iter := rv.MapRange(); iter.Next(); {
			value, err := normalize(iter.Value().Interface(), depth+1)
			if err != nil {
				return nil, err
			}
			out[fmt.Sprint(iter.Key().Interface())] = value
		}
		return out, nil
	case reflect.Slice, reflect.Array:
		out := make([]any, rv.Len())
		for i := range out {
			value, err := normalize(rv.Index(i).Interface(), depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = value
		}
		return out, nil
	}
	return normalizeScalar(rv)
}

func normalizeScalar(rv reflect.Value) (any, error) {
	switch {
	case rv.Kind() == reflect.String:
		return rv.String(), nil
	case rv.Kind() == reflect.Bool:
		return rv.Bool(), nil
	case rv.CanInt():
		return rv.Int(), nil
	case rv.CanUint() && rv.Uint() <= math.MaxInt64:
		return int64(rv.Uint()), nil
	case rv.CanFloat():
		return rv.Float(), nil
	}
	return nil, fmt.Errorf("a value of type %s cannot be used", rv.Type())
}

func number(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("number %s is out of range", s)
	}
	return f, nil
}
