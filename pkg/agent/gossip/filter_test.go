package gossip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/muster-dev/muster/pkg/agent/conntable"
	"github.com/muster-dev/muster/pkg/api"
	"github.com/muster-dev/muster/pkg/logx"
)

func packed(kind byte, v any) []byte {
	out := bytes.NewBuffer([]byte{kind})
	if err := codec.NewEncoder(out, new(codec.MsgpackHandle)).Encode(v); err != nil {
		panic(err)
	}
	return out.Bytes()
}

type wireAlive struct {
	Incarnation uint32
	Node        string
	Addr        []byte
	Port        uint16
	Meta, Vsn   []byte
}

func forged(name string) []byte {
	meta := packed(255, map[string]string{"role": "node", "dc": "dc1", "id": "id-of-" + name})
	return packed(msgAlive, wireAlive{Incarnation: 1, Node: name, Addr: []byte{127, 9, 9, 9}, Port: 9, Meta: meta, Vsn: []byte{1, 5, 2, 2, 5, 4}})
}

var (
	memberAt  = netip.MustParseAddr("10.0.0.1")
	unknownAt = netip.MustParseAddr("10.9.9.9")
)

// deafFilter passes nothing on; its admit is under test.
func deafFilter(encrypted bool) *filterTransport {
	known := &members{list: []api.Member{{Name: "n1"}}, addrs: map[netip.Addr]bool{memberAt: true}}
	return &filterTransport{
		encrypted: encrypted, members: func() *members { return known },
		unknown:  tokenBucket{rate: unknownPerSecond, burst: unknownBurst},
		newNames: tokenBucket{rate: newNamesPerSecond, burst: newNamesBurst},
	}
}

func compound(parts ...[]byte) []byte {
	return join(append(parts, nil)[:len(parts)])
}

func TestPacketsThatPass(t *testing.T) {
	ping := packed(msgPing, struct{ SeqNo uint32 }{7})
	user := []byte{msgUser, 1, 2}
	both := compound(ping, user)
	withCRC := append([]byte{msgCRC, 0, 0, 0, 0}, ping...)
	for name, c := range map[string]struct {
		in, want []byte
	}{
		"ping":                  {ping, ping},
		"user":                  {user, user},
		"compound":              {both, both},
		"compound of one":       {compound(ping), ping},
		"compound in compound":  {compound(both, ping), ping},
		"compressed":            {packed(9, struct{ Algo, Buf string }{}), nil},
		"compressed inside":     {compound(packed(9, struct{ Algo, Buf string }{}), ping), ping},
		"wrong checksum":        {withCRC, nil},
		"state exchange":        {packed(msgPushPull, struct{ Nodes int }{1}), nil},
		"label":                 {append([]byte{244, 1, 'x'}, ping...), nil},
		"no fields":             {[]byte{msgPing, 0xc0}, nil},
		"empty":                 {nil, nil},
		"compound, no lengths":  {[]byte{msgCompound, 200, 0}, nil},
		"compound, cut off":     {both[:len(both)-1], nil},
		"too large":             {append([]byte{msgUser}, make([]byte, maxPacket)...), nil},
		"as large as it may be": {append([]byte{msgUser}, make([]byte, maxPacket-1)...), append([]byte{msgUser}, make([]byte, maxPacket-1)...)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := deafFilter(false).filterPacket(c.in, memberAt, time.Now()); !bytes.Equal(got, c.want) {
				t.Errorf("passed %x, want %x", got, c.want)
			}
		})
	}
}

func TestStrangersAreHeardAtABoundedRate(t *testing.T) {
	now := time.Now()
	count := func(g *filterTransport, from netip.Addr, msg func(i int) []byte) (passed int) {
		for i := range 3000 {
			if g.filterPacket(msg(i), from, now) != nil {
				passed++
			}
		}
		return passed
	}
	alive := func(i int) []byte { return forged(fmt.Sprint("x", i)) }
	user := func(int) []byte { return []byte{msgUser, 1} }
	encrypted := func(int) []byte { return append([]byte{1}, make([]byte, 40)...) }
	for name, c := range map[string]struct {
		encrypted bool
		from      netip.Addr
		msg       func(int) []byte
		want      int
	}{
		"a member's":                  {false, memberAt, user, 3000},
		"a member introduces":         {false, memberAt, alive, newNamesBurst},
		"an unknown one's":            {false, unknownAt, user, unknownBurst},
		"a stranger introduces":       {false, unknownAt, alive, newNamesBurst},
		"about a known member":        {false, unknownAt, func(int) []byte { return forged("n1") }, unknownBurst},
		"encrypted, a member's":       {true, memberAt, encrypted, 3000},
		"encrypted, an unknown one's": {true, unknownAt, encrypted, unknownBurst},
		"plain where encrypted":       {true, memberAt, user, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := count(deafFilter(c.encrypted), c.from, c.msg); got != c.want {
				t.Errorf("%d of 3000 passed, want %d", got, c.want)
			}
		})
	}
}

// What passes is never larger than what came, holds no compressed and no nested
// message, and passes again unchanged.
func FuzzPackets(f *testing.F) {
	ping := packed(msgPing, struct{ SeqNo uint32 }{7})
	f.Add(ping, false)
	f.Add(compound(ping, []byte{msgUser}, forged("a")), false)
	f.Add(append([]byte{msgCRC, 1, 2, 3, 4}, ping...), true)
	f.Fuzz(func(t *testing.T, in []byte, encrypted bool) {
		now := time.Now()
		out := deafFilter(encrypted).filterPacket(in, memberAt, now)
		if len(out) > len(in) || len(out) > maxPacket {
			t.Fatalf("%d bytes became %d", len(in), len(out))
		}
		if out == nil || encrypted {
			return
		}
		for _, part := range split(out) {
			if part[0] == msgCompound || !wellFormed(part) {
				t.Fatalf("passed %x", part)
			}
		}
		if again := deafFilter(false).filterPacket(out, memberAt, now); !bytes.Equal(again, out) {
			t.Fatalf("%x at first, then %x", out, again)
		}
		deafFilter(false).filterPacket(in, unknownAt, now)
	})
}

func TestStreamHeads(t *testing.T) {
	exchange := func(nodes, user int) []byte {
		return packed(msgPushPull, struct {
			Nodes, UserStateLen int
			Join                bool
		}{nodes, user, true})
	}
	size := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{msgEncrypt}, n) }
	for name, c := range map[string]struct {
		head         []byte
		encrypted    bool
		good, enough bool
	}{
		"exchange":                  {exchange(3, 100), false, true, true},
		"half a header":             {exchange(3, 100)[:6], false, false, false},
		"a million nodes":           {exchange(1<<20, 0), false, false, true},
		"fewer than none":           {exchange(-1, 0), false, false, true},
		"20 MB of state":            {exchange(1, 20<<20), false, false, true},
		"ping":                      {[]byte{msgPing}, false, true, true},
		"user message":              {[]byte{msgUser, 0x81}, false, false, true},
		"compressed":                {[]byte{9, 0x82}, false, false, true},
		"label":                     {[]byte{244}, false, false, true},
		"encrypted, for us plain":   {[]byte{msgEncrypt}, false, true, true},
		"plain, for us encrypted":   {[]byte{msgPushPull}, true, true, true},
		"encrypted":                 {size(100), true, true, true},
		"encrypted, size to come":   {size(100)[:4], true, false, false},
		"encrypted, more than fits": {size(maxStreamBytes + 1), true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			if good, enough := checkHead(c.head, c.encrypted); good != c.good || enough != c.enough {
				t.Errorf("good %v, enough %v", good, enough)
			}
		})
	}
}

// The streams of one source, and of all, are bounded; the old ones of the
// busiest give way, and one that is young never does.
func TestStreamsGiveWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		table := conntable.New(streamLimits)
		open := map[byte][]net.Conn{} // the far ends, by source
		add := func(source byte) bool {
			near, far := net.Pipe()
			if _, err := table.Add(namedConn{near, &net.TCPAddr{IP: net.IPv4(10, 0, 0, source)}}); err != nil {
				return false
			}
			open[source] = append(open[source], far)
			return true
		}
		left := func(sources ...byte) (n int) {
			for _, source := range sources {
				for _, far := range open[source] {
					_ = far.SetReadDeadline(time.Now().Add(time.Millisecond))
					if _, err := far.Read(make([]byte, 1)); err != io.EOF {
						n++
					}
				}
			}
			return n
		}
		for i := range streamLimits.PerAddress {
			if !add(1) {
				t.Fatalf("stream %d of a source was refused", i+1)
			}
		}
		if add(1) {
			t.Error("a source got one more than it may have, while its others were young")
		}
		time.Sleep(streamLimits.GiveWay)
		if !add(1) || left(1) != streamLimits.PerAddress {
			t.Errorf("an old one did not give way: %d are open", left(1))
		}
		for i := range streamLimits.Total - streamLimits.PerAddress {
			if source := byte(2 + i/(streamLimits.PerAddress/2)); !add(source) {
				t.Fatalf("a stream of source %d was refused", source)
			}
		}
		time.Sleep(streamLimits.GiveWay)
		if !add(99) || left(1) != streamLimits.PerAddress-1 || left(99) != 1 {
			t.Errorf("the busiest source has %d left, want %d; the newcomer has %d", left(1), streamLimits.PerAddress-1, left(99))
		}
		table.Close()
	})
}

func TestMembersAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		network := newMemNet()
		a := start(t, Config{NodeName: "a", MaxMembers: 3, transport: network.attach(ipOf(1))})
		defer a.end()
		for i := range 4 {
			n := start(t, Config{NodeName: fmt.Sprint("b", i), transport: network.attach(ipOf(2 + i))})
			defer n.end()
			_, err := n.Join([]string{ipOf(1) + ":8301"})
			if i >= 2 && err == nil && a.NumNodes() > 3 {
				t.Errorf("member %d of 3 was taken in", i+2)
			}
		}
		time.Sleep(10 * time.Second)
		if got := a.NumNodes(); got != 3 {
			t.Errorf("a knows %d members, want 3", got)
		}
	})
}

// Without a key: 10,000 random and mutated packets, forged members and 500
// streams, from another address. They cost little, and a member that joins in
// the middle of it is served.
func TestNoiseCostsLittle(t *testing.T) {
	checkLeaks(t)
	a := start(t, Config{NodeName: "a", BindAddr: "127.0.0.1"})
	defer a.end()
	before := heap()
	from := &net.UDPAddr{IP: net.IPv4(127, 9, 9, 9)}
	target := addrOf(a)
	udp, err := (&net.Dialer{LocalAddr: from}).Dial("udp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		_, _ = udp.Write(mutated(rnd, i))
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.IP}, Timeout: 5 * time.Second}
	huge := packed(msgPushPull, struct{ Nodes, UserStateLen int }{MaxMembers, maxUserState})
	var held []net.Conn
	for i := range 500 {
		conn, err := dialer.Dial("tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		_, _ = conn.Write([][]byte{huge, {msgPushPull}, {}, {msgUser, 0x81, 0xaa}, mutated(rnd, i)}[i%5])
	}
	most := heap()
	b := start(t, Config{NodeName: "b", BindAddr: "127.0.0.1"})
	defer b.end()
	began := time.Now()
	if _, err := b.Join([]string{target}); err != nil {
		t.Errorf("join amid the noise: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("joining amid the noise took %v", took)
	}
	for _, conn := range held {
		conn.Close()
	}
	most = max(most, heap())
	t.Logf("heap: %d KB before, %d KB amid it; %d members", before>>10, most>>10, a.NumNodes())
	if most > before+40<<20 {
		t.Errorf("the noise cost %d MB", (most-before)>>20)
	}
	if got := a.NumNodes(); got > newNamesBurst+10*newNamesPerSecond {
		t.Errorf("%d members have been made up", got)
	}
}

func mutated(rnd *rand.Rand, i int) []byte {
	var msg []byte
	switch i % 4 {
	case 0:
		msg = make([]byte, 1+rnd.IntN(1500))
		for j := range msg {
			msg[j] = byte(rnd.Uint32())
		}
		return msg
	case 1:
		return forged(fmt.Sprint("x", i))
	case 2:
		msg = compound(forged("a"), packed(msgPing, struct{ SeqNo uint32 }{7}))
	default:
		msg = packed(msgSuspect, struct{ Node, From string }{"a", "x"})
	}
	msg[rnd.IntN(len(msg))] ^= byte(1 << rnd.IntN(8))
	return msg
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// A stream that goes on for ever ends at its limit.
func TestStreamsEnd(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	own, err := conntable.New(streamLimits).AddOwn(near)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{Conn: own, left: 1000}
	go func() {
		for {
			if _, err := far.Write(make([]byte, 300)); err != nil {
				return
			}
		}
	}()
	if n, err := io.Copy(io.Discard, s); n != 1000 || err != errStreamTooLong {
		t.Errorf("read %d bytes, then %v", n, err)
	}
	_ = s.Close()
}

func TestQuietLog(t *testing.T) {
	var out strings.Builder
	l := limitedLog(logx.Std(logx.New(&out, nil, false)))
	for range 10 * warningsBurst {
		l.Print("[ERR] memberlist: bad packet")
	}
	if got := strings.Count(out.String(), "bad packet"); got != warningsBurst {
		t.Errorf("%d lines, want %d", got, warningsBurst)
	}
	l.Print("[INFO] serf: something else")
	if !strings.Contains(out.String(), "something else") {
		t.Error("what is no warning was left out too")
	}
}
