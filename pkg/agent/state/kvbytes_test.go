package state

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/pkg/api"
)

// The bytes of KV commands in the log: maps with one-letter names in their order,
// and the shortest form of each length and number. Entries of any version must stay
// readable, and those of this one be readable for the one before.
func TestKVCommandBytes(t *testing.T) {
	const head = "\x03\x02\x00\x00\x00\x00\x00\x00\x00\x07" // type, version, time
	for want, cmd := range map[string]*KV{
		"\x82\xa1k\xa1a\xa1o\xa3set":                                                                                                     {Op: KVSet, Entry: api.KVPair{Key: "a"}},
		"\x84\xa1f\xcd\x01\x2c\xa1k\xa1a\xa1o\xa3set\xa1v\xc4\x03\x00v\xff":                                                              {Op: KVSet, Entry: api.KVPair{Key: "a", Value: []byte("\x00v\xff"), Flags: 300}},
		"\x83\xa1i\xce\x00\x01\x00\x00\xa1k\xd9\x20" + strings.Repeat("k", 32) + "\xa1o\xa3cas":                                          {Op: KVCAS, Entry: api.KVPair{Key: strings.Repeat("k", 32)}, Index: 1 << 16},
		"\x84\xa1k\xa0\xa1o\xa4lock\xa1s\xa1s\xa1v\xc5\x01\x00" + strings.Repeat("v", 256):                                               {Op: KVLock, Entry: api.KVPair{Session: "s", Value: []byte(strings.Repeat("v", 256))}},
		"\x84\xa1k\xa1a\xa1n\x82\xa1k\xa1f\xa1t\x09\xa1o\xa3set\xa1t\xd2\x3b\x9a\xca\x00":                                                {Op: KVSet, Entry: api.KVPair{Key: "a"}, TTL: time.Second, Fence: &Fence{"f", 9}},
		"\x84\xa1f\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1i\xcc\x80\xa1k\xda\x01\x00" + strings.Repeat("k", 256) + "\xa1o\xaadelete-cas": {Op: KVDeleteCAS, Entry: api.KVPair{Key: strings.Repeat("k", 256), Flags: 1<<64 - 1}, Index: 128},
	} {
		got, err := Encode(cmd, time.Unix(0, 7), Level)
		if err != nil || string(got) != head+want {
			t.Errorf("%+v is encoded as\n%q, %v, want\n%q", cmd, got, err, head+want)
		}
		data := []byte(head + want)
		back, now, err := Decode(data)
		clear(data) // raft uses its buffers again, and what is kept must not hold on to them
		if err != nil || now != 7 || !reflect.DeepEqual(back, cmd) {
			t.Errorf("%q is decoded as %+v, %d, %v", want, back, now, err)
		}
	}
}
