package state

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What is written and read by hand is what msgpack writes and reads.
func TestPlainKVIsMsgpack(t *testing.T) {
	plain := 0
	for _, length := range []int{0, 1, 31, 32, 255, 256, 65535, 65536} {
		for _, n := range []uint64{0, 1, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
			for _, w := range []kvWire{
				{Op: KVSet, Key: strings.Repeat("k", length), Value: bytes.Repeat([]byte{'v'}, length), Flags: n},
				{Op: KVLock, Key: "k", Session: strings.Repeat("s", length), Index: n},
				{Op: KVCAS, Flags: n, Index: n, Value: make([]byte, length)},
				{Op: KVSet, Key: "k", TTL: time.Duration(length), Fence: &Fence{Key: "f"}},
			} {
				want, err := pack(nil, &w)
				if err != nil {
					t.Fatal(err)
				}
				got, ok := w.appendPlain([]byte("head"))
				var back, reference kvWire
				if err := unpack(want, &reference); err != nil {
					t.Fatal(err)
				}
				if !ok {
					if back.readPlain(want) {
						t.Errorf("%+v is read as a plain command", w)
					}
					continue
				}
				plain++
				if string(got) != "head"+string(want) {
					t.Fatalf("%+v: %q instead of %q", w, got, want)
				}
				if !back.readPlain(want) || !reflect.DeepEqual(back, reference) {
					t.Fatalf("read back %+v instead of %+v", back, reference)
				}
			}
		}
	}
	if plain < 3*8*11 {
		t.Errorf("%d plain commands", plain)
	}
}

// FuzzPlainKV: what is read by hand is what msgpack reads; the rest is left to it.
func FuzzPlainKV(f *testing.F) {
	for _, w := range []kvWire{{Op: KVSet, Key: "k", Value: []byte("v"), Flags: 300}, {Op: KVLock, Key: "k", Session: "s", Index: 1 << 40}} {
		b, err := pack(nil, &w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want kvWire
		if !got.readPlain(b) {
			return
		}
		if err := unpack(b, &want); err != nil {
			t.Fatalf("msgpack does not read it: %v", err)
		}
		if len(got.Value) == 0 && len(want.Value) == 0 {
			got.Value, want.Value = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v instead of %+v", got, want)
		}
	})
}
