package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bolt trusts its pages: on damaged ones it panics, walks in circles, or leaves
// out entries without a word. So the tree is verified here first, by the layout
// of bolt's file format 2:
//
//	page     id 8, flags 2, count 2, overflow 4 bytes; then count elements of 16
//	         bytes; then their keys and values, without gaps, in order
//	branch   offset of the key 4, its size 4, page 8
//	leaf     flags 4, offset of key and value 4, their sizes 4 and 4
//	bucket   a leaf's value: root page 8, sequence 8; root 0: the page follows
const (
	pageHeader   = 16
	elementSize  = 16
	bucketHeader = 16
	rootSize     = 64
	rootMagic    = 0xED0CDAED

	flagBranch = 1
	flagLeaf   = 2
	leafBucket = 1 // an element's flag

	maxDepth = 32
)

// tree is one walk over a file.
type tree struct {
	file     io.ReaderAt
	pageSize uint64
	pages    uint64 // behind the last one
	seen     map[uint64]bool
	pair     func(bucket string, key, val []byte) error
}

// checkTree verifies both roots and every page that the newer one leads to, and
// calls pair for each key in a bucket. Errors do not name the file.
func checkTree(f *os.File, pair func(bucket string, key, val []byte) error) error {
	t := &tree{file: f, pageSize: uint64(os.Getpagesize()), seen: map[uint64]bool{}, pair: pair}
	var newest, root uint64
	for n := range uint64(2) {
		meta, err := t.root(n)
		if err != nil {
			return err
		}
		if txid := binary.NativeEndian.Uint64(meta[48:]); txid >= newest {
			newest, root, t.pages = txid, binary.NativeEndian.Uint64(meta[16:]), binary.NativeEndian.Uint64(meta[40:])
		}
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size := uint64(info.Size()); size/t.pageSize < t.pages {
		return fmt.Errorf("%d bytes long where it says %d", size, t.pages*t.pageSize)
	}
	return t.walk("", root, nil, nil, 0)
}

// root verifies one of the two root pages. Bolt is content with one, and would go
// back by one transaction without a word: to what was before the newest vote.
func (t *tree) root(n uint64) ([]byte, error) {
	meta := make([]byte, rootSize)
	if _, err := t.file.ReadAt(meta, int64(n*t.pageSize+pageHeader)); err != nil {
		return nil, fmt.Errorf("root page %d: %w", n, err)
	}
	sum := fnv.New64a()
	_, _ = sum.Write(meta[:rootSize-8])
	if binary.NativeEndian.Uint32(meta) != rootMagic || binary.NativeEndian.Uint64(meta[rootSize-8:]) != sum.Sum64() {
		return nil, fmt.Errorf("root page %d: %w", n, errMismatch)
	}
	return meta, nil
}

// walk verifies a page and what is below it. All keys lie from low on and, if
// there is a high, below that.
func (t *tree) walk(bucket string, id uint64, low, high []byte, depth int) error {
	if id < 2 || id >= t.pages || t.seen[id] || depth > maxDepth {
		return fmt.Errorf("page %d is where it cannot be", id)
	}
	t.seen[id] = true
	page := make([]byte, t.pageSize)
	if _, err := t.file.ReadAt(page, int64(id*t.pageSize)); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	more := uint64(binary.NativeEndian.Uint32(page[12:]))
	if binary.NativeEndian.Uint64(page) != id || more >= t.pages-id {
		return fmt.Errorf("page %d is not what was written", id)
	}
	if more > 0 {
		rest := make([]byte, more*t.pageSize)
		if _, err := t.file.ReadAt(rest, int64((id+1)*t.pageSize)); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		page = append(page, rest...)
		for n := range more {
			if t.seen[id+1+n] {
				return fmt.Errorf("page %d reaches over page %d", id, id+1+n)
			}
			t.seen[id+1+n] = true
		}
	}
	if err := t.elements(bucket, page, low, high, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

var errLayout = errors.New("its content is not laid out as it was written")

// elements verifies the content of a page, which may be one within a value.
func (t *tree) elements(bucket string, page, low, high []byte, depth int) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), uint64(binary.NativeEndian.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf || (flags == flagBranch && count == 0) {
		return errLayout
	}
	at := pageHeader + count*elementSize // where the next key has to be
	if at > uint64(len(page)) {
		return errLayout
	}
	keys, vals := make([][]byte, count), make([][]byte, count)
	for i := range count {
		element := page[pageHeader+i*elementSize:]
		numbers := [4]uint64{}
		for n := range numbers {
			numbers[n] = uint64(binary.NativeEndian.Uint32(element[4*n:]))
		}
		offset, keySize, valSize := numbers[1], numbers[2], numbers[3]
		if flags == flagBranch {
			offset, keySize, valSize = numbers[0], numbers[1], 0
		}
		if pageHeader+i*elementSize+offset != at || at+keySize+valSize > uint64(len(page)) {
			return errLayout
		}
		keys[i], vals[i] = page[at:at+keySize], page[at+keySize:at+keySize+valSize]
		at += keySize + valSize
		ordered := i == 0 && bytes.Compare(keys[0], low) >= 0 || i > 0 && bytes.Compare(keys[i-1], keys[i]) < 0
		if !ordered || (high != nil && bytes.Compare(keys[i], high) >= 0) {
			return fmt.Errorf("key %.40q is not in order", keys[i])
		}
	}
	// Pages come zeroed: what follows is nothing, or was cut off by a wrong count.
	if len(bytes.TrimLeft(page[at:], "\x00")) > 0 {
		return errLayout
	}
	for i := range count {
		element := page[pageHeader+i*elementSize:]
		var err error
		switch {
		case flags == flagBranch:
			end := high
			if i+1 < count {
				end = keys[i+1]
			}
			err = t.walk(bucket, binary.NativeEndian.Uint64(element[8:]), keys[i], end, depth+1)
		case binary.NativeEndian.Uint32(element) == leafBucket && bucket == "":
			err = t.bucket(string(keys[i]), vals[i], depth+1)
		case binary.NativeEndian.Uint32(element) != 0 || bucket == "":
			err = errLayout
		default:
			err = t.pair(bucket, keys[i], vals[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) bucket(name string, val []byte, depth int) error {
	if len(val) < bucketHeader {
		return errLayout
	}
	if root := binary.NativeEndian.Uint64(val); root != 0 {
		return t.walk(name, root, nil, nil, depth)
	}
	if len(val) < bucketHeader+pageHeader {
		return errLayout
	}
	return t.elements(name, val[bucketHeader:], nil, nil, depth)
}
