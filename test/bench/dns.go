package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	typeA    = 1
	typeSRV  = 33
	ednsSize = 1232
)

// dns asks for a service over UDP, every client on a socket of its own.
func dns(r *run) {
	a := r.single()
	for _, n := range r.sizes(10, 100) {
		service := fmt.Sprintf("bench-dns-%d", n)
		register(a.addr, service, n)
		for _, typ := range []uint16{typeA, typeSRV} {
			q, answers := question(service+".service.consul", typ), 0
			first := asker(a.ip, q)
			r.await("answer to a DNS question at "+a.ip, func() bool {
				answers, _ = first()
				return answers > 0
			})
			r.settle(a.pids())
			f := r.load(16, a.pids(), func(int) (func() error, func()) {
				ask := asker(a.ip, q)
				return func() error { _, err := ask(); return err }, func() {}
			})
			f["answers"] = float64(answers)
			r.emit("dns", fmt.Sprintf("type=%s n=%d", map[uint16]string{typeA: "A", typeSRV: "SRV"}[typ], n), f)
		}
	}
}

// question is a packed question that allows answers of ednsSize bytes.
func question(name string, typ uint16) []byte {
	q := []byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1} // recursion desired; one question, one OPT
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	q = binary.BigEndian.AppendUint16(append(q, 0), typ)
	q = binary.BigEndian.AppendUint16(append(q, 0, 1, 0, 0, 41), ednsSize)
	return append(q, 0, 0, 0, 0, 0, 0)
}

// asker asks a question again and again, and says how many records came.
func asker(ip string, q []byte) func() (int, error) {
	q, in := append([]byte(nil), q...), make([]byte, 64<<10)
	c, err := net.Dial("udp", ip+":8600")
	return func() (int, error) {
		if err != nil {
			return 0, err
		}
		binary.BigEndian.PutUint16(q, binary.BigEndian.Uint16(q)+1)
		if err := c.SetDeadline(time.Now().Add(maxWait / 4)); err != nil {
			return 0, err
		}
		if _, err := c.Write(q); err != nil {
			return 0, err
		}
		for {
			n, err := c.Read(in)
			switch {
			case err != nil:
				return 0, err
			case n < 12 || in[0] != q[0] || in[1] != q[1]: // late, for an earlier one
			case in[3]&0xf != 0:
				return 0, fmt.Errorf("DNS error %d", in[3]&0xf)
			default:
				return int(binary.BigEndian.Uint16(in[6:])), nil
			}
		}
	}
}
