package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"github.com/muster-dev/muster/pkg/api"
)

// encodeCompact gives the bytes that json.Marshal gives. The answers that are asked
// for most often are made here, without reflection: the result of a write, and a
// single key.
func encodeCompact(v any) ([]byte, error) {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(make([]byte, 0, 5), v), nil
	case []*api.KVPair:
		if len(v) == 1 && v[0] != nil && quotesPlainly(v[0].Key) && quotesPlainly(v[0].Session) {
			return appendPair(v[0]), nil
		}
	}
	return json.Marshal(v)
}

// quotesPlainly tells the strings that stand in JSON as they are.
func quotesPlainly(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func appendPair(e *api.KVPair) []byte {
	const most = 160 // for everything beside the strings
	b := make([]byte, 0, most+len(e.Key)+len(e.Session)+base64.StdEncoding.EncodedLen(len(e.Value)))
	b = strconv.AppendUint(append(b, `[{"LockIndex":`...), e.LockIndex, 10)
	b = append(append(b, `,"Key":"`...), e.Key...)
	b = strconv.AppendUint(append(b, `","Flags":`...), e.Flags, 10)
	if e.Value == nil {
		b = append(b, `,"Value":null`...)
	} else {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"Value":"`...), e.Value), '"')
	}
	if e.Session != "" {
		b = append(append(append(b, `,"Session":"`...), e.Session...), '"')
	}
	b = strconv.AppendUint(append(b, `,"CreateIndex":`...), e.CreateIndex, 10)
	b = strconv.AppendUint(append(b, `,"ModifyIndex":`...), e.ModifyIndex, 10)
	return append(b, "}]"...)
}
