package exec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/muster-dev/muster/pkg/api"
)

// maxChunks limits the chunks of one run, whatever their size.
const maxChunks = 1 << 16

// spool keeps the output of one run in a file, in chunks that never change. It is
// safe for concurrent use.
type spool struct {
	mu        sync.Mutex
	file      *os.File
	offsets   []int64 // where each chunk begins
	streams   []byte  // which stream each chunk is of
	end       int64
	truncated bool
	changed   chan struct{} // holds at most one signal: there is more
}

// newSpool makes a spool in a directory. Its file is unlinked at once, so that
// it ends with the process.
func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "output-")
	if err != nil {
		return nil, fmt.Errorf("make a file for output: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("make a file for output: %w", err)
	}
	return &spool{file: f, changed: make(chan struct{}, 1)}, nil
}

// readFrom reads a stream to its end. What is beyond the limit is read and
// dropped, so that the command does not block.
func (s *spool) readFrom(stream int, from io.Reader) {
	buf := make([]byte, api.MaxExecChunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			s.add(stream, buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (s *spool) add(stream int, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if free := api.MaxExecOutput - s.end; int64(len(data)) > free || len(s.offsets) == maxChunks {
		s.truncated = true
		data = data[:min(int64(len(data)), max(free, 0))]
		if len(data) == 0 || len(s.offsets) == maxChunks {
			return
		}
	}
	if _, err := s.file.WriteAt(data, s.end); err != nil {
		s.truncated = true // the disk is full
		return
	}
	s.offsets, s.streams = append(s.offsets, s.end), append(s.streams, byte(stream))
	s.end += int64(len(data))
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// count is the number of chunks so far, and whether there was more.
func (s *spool) count() (chunks uint64, truncated bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.offsets)), s.truncated
}

// read returns chunks from the number seq on, up to limit bytes of them, but at
// least one if there is one.
func (s *spool) read(seq uint64, limit int) ([]api.ExecChunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []api.ExecChunk
	for i := seq; i < uint64(len(s.offsets)); i++ {
		end := s.end
		if i+1 < uint64(len(s.offsets)) {
			end = s.offsets[i+1]
		}
		n := int(end - s.offsets[i])
		if limit -= n; limit < 0 && len(out) > 0 {
			break
		}
		var data bytes.Buffer
		if _, err := io.Copy(&data, io.NewSectionReader(s.file, s.offsets[i], int64(n))); err != nil || data.Len() != n {
			return nil, errors.Join(errors.New("read spooled output: it ends too early"), err)
		}
		out = append(out, api.ExecChunk{Stream: int(s.streams[i]), Data: data.Bytes()})
	}
	return out, nil
}

func (s *spool) close() { _ = s.file.Close() }
