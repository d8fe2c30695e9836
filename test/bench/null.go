package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// null IP DIR serves as much of the API as the loads need, in the plainest way:
// net/http, a map, one file that every write of a key is on before it is
// acknowledged, a loop around a UDP socket. It cannot be done for less here.
func null(args []string) error {
	file, err := os.Create(filepath.Join(args[1], "log"))
	if err != nil {
		return err
	}
	n := &nullServer{log: groupLog{file: file, next: &group{}}, values: map[string]value{}, services: map[string][]json.RawMessage{}}
	udp, err := net.ListenPacket("udp", args[0]+":8600")
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- n.serveDNS(udp) }()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", n.get)
	mux.HandleFunc("PUT /v1/kv/", n.put)
	mux.HandleFunc("PUT /v1/catalog/register", n.register)
	go func() { failed <- http.ListenAndServe(args[0]+":8500", mux) }()
	return <-failed
}

type nullServer struct {
	log      groupLog
	mu       sync.RWMutex
	index    uint64
	values   map[string]value // by path
	services map[string][]json.RawMessage
}

type value struct {
	index   uint64
	body    []byte
	changed chan struct{} // closed when there is another
}

// set wants mu.
func (n *nullServer) set(path string, body []byte) {
	n.index++
	if old, ok := n.values[path]; ok {
		close(old.changed)
	}
	n.values[path] = value{n.index, body, make(chan struct{})}
}

func (n *nullServer) put(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err == nil {
		err = n.log.append(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := fmt.Appendf(nil, `[{"Key":%q,"Flags":0,"LockIndex":0,"Value":%q}]`, strings.TrimPrefix(req.URL.Path, "/v1/kv/"), b64(body))
	n.mu.Lock()
	n.set(req.URL.Path, answer)
	n.mu.Unlock()
	_, _ = io.WriteString(w, "true")
}

// register takes instances that are numbered, each "ID" ending in its number.
func (n *nullServer) register(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var reg struct{ Service struct{ Service, ID string } }
	if err == nil {
		err = json.Unmarshal(body, &reg)
	}
	number, bad := strconv.Atoi(reg.Service.ID[strings.LastIndexByte(reg.Service.ID, '-')+1:])
	if err != nil || bad != nil {
		http.Error(w, fmt.Sprint(err, bad), http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.services[reg.Service.Service]
	for len(all) <= number {
		all = append(all, json.RawMessage(body))
	}
	all[number] = body
	n.services[reg.Service.Service] = all
	answer, _ := json.Marshal(all) // it has been parsed before
	n.set("/v1/health/service/"+reg.Service.Service, answer)
	_, _ = io.WriteString(w, "true")
}

func (n *nullServer) get(w http.ResponseWriter, req *http.Request) {
	n.mu.RLock()
	v, ok := n.values[req.URL.Path]
	n.mu.RUnlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	if req.URL.RawQuery != "" {
		if since, _ := strconv.ParseUint(req.URL.Query().Get("index"), 10, 64); since >= v.index {
			select {
			case <-v.changed:
			case <-req.Context().Done():
			}
			n.mu.RLock()
			v = n.values[req.URL.Path]
			n.mu.RUnlock()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Consul-Index", strconv.FormatUint(v.index, 10))
	_, _ = w.Write(v.body)
}

// serveDNS answers with as many records as fit.
func (n *nullServer) serveDNS(udp net.PacketConn) error {
	buf := make([]byte, 64<<10)
	for {
		size, from, err := udp.ReadFrom(buf)
		if err != nil {
			return err
		}
		q := buf[:size]
		if size < 13 || 13+int(q[12]) > size {
			continue
		}
		name := q[12:][:1+q[12]]
		end := size - 11 // where the question ends and the OPT begins
		n.mu.RLock()
		count := len(n.services[string(name[1:])])
		n.mu.RUnlock()
		out := append([]byte(nil), q[:end]...)
		out[2], out[3] = 0x85, 0
		answers := 0
		for ; answers < count && len(out)+40 < ednsSize; answers++ {
			out = append(append(out, 0xc0, 12), q[end-4:end]...) // the question's name, type and class
			out = append(out, 0, 0, 0, 0)
			if q[end-3] == typeSRV {
				target := strconv.Itoa(answers)
				out = binary.BigEndian.AppendUint16(out, uint16(6+1+len(target)+1))
				out = append(append(out, 0, 1, 0, 1, 0x1f, 0x40, byte(len(target))), target...)
				out = append(out, 0)
			} else {
				out = append(out, 0, 4, 127, 1, byte(answers/250), byte(answers%250+1))
			}
		}
		binary.BigEndian.PutUint16(out[6:], uint16(answers))
		binary.BigEndian.PutUint16(out[10:], 0)
		if _, err := udp.WriteTo(out, from); err != nil {
			return err
		}
	}
}

// A groupLog makes what several append at a time durable at once.
type groupLog struct {
	mu   sync.Mutex
	next *group // what waits
	disk sync.Mutex
	file *os.File
}

type group struct {
	records []byte
	done    bool
	err     error
}

func (l *groupLog) append(record []byte) error {
	l.mu.Lock()
	mine := l.next
	mine.records = append(mine.records, record...)
	l.mu.Unlock()
	l.disk.Lock()
	defer l.disk.Unlock()
	if !mine.done {
		l.mu.Lock()
		l.next = &group{}
		l.mu.Unlock()
		if _, mine.err = l.file.Write(mine.records); mine.err == nil {
			mine.err = syscall.Fdatasync(int(l.file.Fd()))
		}
		mine.done = true
	}
	return mine.err
}
