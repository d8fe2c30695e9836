package funcs

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v2"
)

func base64Decode(s string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", fmt.Errorf("base64Decode: %w", err)
	}
	return string(b), nil
}

func base64Encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// base64URLDecode takes text with and without padding: tokens have none.
func base64URLDecode(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return "", fmt.Errorf("base64URLDecode: %w", err)
	}
	return string(b), nil
}

func base64URLEncode(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func md5sum(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func hmacSHA256Hex(message, key string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(message))
	return hex.EncodeToString(h.Sum(nil))
}

func parseBool(s string) (bool, error) {
	if s == "" {
		return false, nil
	}
	return strconv.ParseBool(s)
}

func parseFloat(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseFloat(s, 64)
}

func parseInt(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

func parseUint(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

func parseJSON(s string) (any, error) {
	if s == "" {
		return map[string]any{}, nil
	}
	var text json.RawMessage // all of s is one value
	if err := json.Unmarshal([]byte(s), &text); err != nil {
		return nil, fmt.Errorf("parseJSON: %w", err)
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	err := dec.Decode(&v)
	if err == nil {
		v, err = ofJSON(v)
	}
	if err != nil {
		return nil, fmt.Errorf("parseJSON: %w", err)
	}
	return v, nil
}

// parseYAML reads YAML 1.1, as consul-template does: no is false, 010 is 8, a date is the
// text that it is, and of a key that is there twice the latter wins.
func parseYAML(s string) (any, error) {
	if s == "" {
		return map[string]any{}, nil
	}
	var v any
	if err := yaml.Unmarshal([]byte(s), &v); err != nil {
		return nil, fmt.Errorf("parseYAML: %w", err)
	}
	return ofYAML(v), nil
}

// ofYAML converts a map whose keys are all strings to map[string]any, which the functions
// for maps and JSON accept.
func ofYAML(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = ofYAML(v[i])
		}
	case map[any]any:
		texts := make(map[string]any, len(v))
		for key, value := range v {
			v[key] = ofYAML(value)
			if text, ok := key.(string); ok {
				texts[text] = v[key]
			}
		}
		if len(texts) == len(v) {
			return texts
		}
	}
	return v
}

func toJSON(v any) (string, error)                { return encodeJSON(v, true, "") }
func toJSONPretty(v any) (string, error)          { return encodeJSON(v, true, "  ") }
func toUnescapedJSON(v any) (string, error)       { return encodeJSON(v, false, "") }
func toUnescapedJSONPretty(v any) (string, error) { return encodeJSON(v, false, "  ") }

func encodeJSON(v any, escape bool, indent string) (string, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(escape)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("toJSON: %w", err)
	}
	return string(bytes.TrimSpace(buf.Bytes())), nil
}

func toYAML(v any) (string, error) {
	text, err := yaml.Marshal(plainNumbers(v))
	if err != nil {
		return "", fmt.Errorf("toYAML: %w", err)
	}
	return string(bytes.TrimSpace(text)), nil
}
