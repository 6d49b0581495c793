package metainfo

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
)

const (
	// maxDepth bounds the nesting of lists and dictionaries, and so the stack of every decoder behind the scan.
	maxDepth = 100
	// maxTokens bounds the number of values and keys: some forty for each of 200,000 files.
	maxTokens = 8 << 20
	// maxDigits is that of the largest integer that 64 bits hold without a sign.
	maxDigits = 20
)

// span is a range of bytes within a scanned buffer; buffers past 4 GiB are refused.
type span struct{ begin, end uint32 }

// scanner checks bencoding without building anything, so that a stranger's bytes cost no memory but their own:
// it keeps the keys of the dictionaries it is inside of, eight bytes each, to find duplicates.
type scanner struct {
	b      []byte
	pos    int
	tokens int
	keys   []span
}

// scan checks that b begins with one well-formed value and returns it; whatever follows it is rest.
// Well-formed is BEP 3 taken strictly: canonical integers, no duplicate keys, every length within the buffer;
// and depth and number of values within bounds. The order of keys is not checked, since files in the wild get
// it wrong and every client reads them.
func scan(b []byte) (v value, rest []byte, err error) {
	if uint64(len(b)) > 1<<32-1 {
		return nil, nil, fmt.Errorf("bencoding of %d bytes is too large", len(b))
	}
	s := scanner{b: b}
	if err := s.value(0); err != nil {
		return nil, nil, fmt.Errorf("malformed bencoding at byte %d: %w", s.pos, err)
	}
	return value(b[:s.pos:s.pos]), b[s.pos:], nil
}

var errTruncated = errors.New("it ends in the middle of a value")

// value moves past one value; on an error pos is where it was found.
func (s *scanner) value(depth int) error {
	if s.pos == len(s.b) {
		return errTruncated
	}
	if s.tokens++; s.tokens > maxTokens {
		return fmt.Errorf("more than %d values", maxTokens)
	}
	switch c := s.b[s.pos]; {
	case c == 'i':
		return s.integer()
	case isDigit(c):
		_, err := s.str()
		return err
	case (c == 'l' || c == 'd') && depth == maxDepth:
		return fmt.Errorf("nested deeper than %d", maxDepth)
	case c == 'l':
		return s.list(depth + 1)
	case c == 'd':
		return s.dict(depth + 1)
	default:
		return fmt.Errorf("unexpected character %q", c)
	}
}

func (s *scanner) integer() error {
	n := bytes.IndexByte(s.b[s.pos:min(len(s.b), s.pos+maxDigits+3)], 'e')
	if n < 0 {
		return errors.New("integer without end")
	}
	digits := s.b[s.pos+1 : s.pos+n]
	if len(digits) > 1 && digits[0] == '-' && digits[1] != '0' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > maxDigits || digits[0] == '0' && len(digits) > 1 {
		return errors.New("integer is not canonical")
	}
	for _, c := range digits {
		if !isDigit(c) {
			return errors.New("integer is not canonical")
		}
	}
	s.pos += n + 1
	return nil
}

// str moves past a string and returns where its bytes are.
func (s *scanner) str() (span, error) {
	n, pos := 0, s.pos
	for ; pos < len(s.b) && isDigit(s.b[pos]); pos++ {
		// Once n passes the buffer the string cannot fit, so n never overflows.
		if n = n*10 + int(s.b[pos]-'0'); n > len(s.b) {
			return span{}, errors.New("string is longer than what is left")
		}
	}
	switch {
	case pos == len(s.b):
		return span{}, errTruncated
	case s.b[pos] != ':':
		return span{}, errors.New("string length without a colon")
	case n > len(s.b)-pos-1:
		return span{}, errors.New("string is longer than what is left")
	}
	pos++
	s.pos = pos + n
	return span{uint32(pos), uint32(pos + n)}, nil
}

func (s *scanner) list(depth int) error {
	s.pos++
	for !s.atEnd() {
		if err := s.value(depth); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) dict(depth int) error {
	s.pos++
	first, sorted := len(s.keys), true
	for !s.atEnd() {
		if s.pos == len(s.b) {
			return errTruncated
		}
		if !isDigit(s.b[s.pos]) {
			return errors.New("dictionary key is not a string")
		}
		s.tokens++
		key, err := s.str()
		if err != nil {
			return err
		}
		if len(s.keys) > first && s.compare(s.keys[len(s.keys)-1], key) >= 0 {
			sorted = false
		}
		s.keys = append(s.keys, key)
		if err := s.value(depth); err != nil {
			return err
		}
	}
	if mine := s.keys[first:]; !sorted {
		slices.SortFunc(mine, s.compare)
		for i := 1; i < len(mine); i++ {
			if s.compare(mine[i-1], mine[i]) == 0 {
				return fmt.Errorf("duplicate key %.40q", s.b[mine[i].begin:mine[i].end])
			}
		}
	}
	s.keys = s.keys[:first]
	return nil
}

func (s *scanner) compare(a, b span) int {
	return bytes.Compare(s.b[a.begin:a.end], s.b[b.begin:b.end])
}

// atEnd moves past the end of a list or dictionary if it is next.
func (s *scanner) atEnd() bool {
	if s.pos < len(s.b) && s.b[s.pos] == 'e' {
		s.pos++
		return true
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// value is the bytes of one scanned value. Its methods rely on the scan and copy nothing.
type value []byte

// str is the content of a string.
func (v value) str() ([]byte, bool) {
	if !isDigit(v[0]) {
		return nil, false
	}
	return v[bytes.IndexByte(v, ':')+1:], true
}

// integer is the value of an integer that fits in 64 bits with a sign.
func (v value) integer() (int64, bool) {
	if v[0] != 'i' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(v[1:len(v)-1]), 10, 64)
	return n, err == nil
}

func (v value) isList() bool { return v[0] == 'l' }
func (v value) isDict() bool { return v[0] == 'd' }

// elements yields the elements of a list, and nothing for any other value.
func (v value) elements() iter.Seq[value] {
	return func(yield func(value) bool) {
		if !v.isList() {
			return
		}
		for pos := 1; v[pos] != 'e'; {
			next := skip(v, pos)
			if !yield(v[pos:next:next]) {
				return
			}
			pos = next
		}
	}
}

// members yields the keys and values of a dictionary, and nothing for any other value.
func (v value) members() iter.Seq2[[]byte, value] {
	return func(yield func([]byte, value) bool) {
		if !v.isDict() {
			return
		}
		for pos := 1; v[pos] != 'e'; {
			colon := skip(v, pos)
			key, _ := v[pos:colon].str()
			next := skip(v, colon)
			if !yield(key, v[colon:next:next]) {
				return
			}
			pos = next
		}
	}
}

// skip is the position after the value at pos, in bytes that were scanned.
func skip(b []byte, pos int) int {
	for depth := 0; ; {
		switch b[pos] {
		case 'l', 'd':
			depth++
			pos++
		case 'e':
			depth--
			pos++
		case 'i':
			pos += bytes.IndexByte(b[pos:], 'e') + 1
		default:
			n := 0
			for ; b[pos] != ':'; pos++ {
				n = n*10 + int(b[pos]-'0')
			}
			pos += 1 + n
		}
		if depth == 0 {
			return pos
		}
	}
}

// member is the value of a key in a dictionary.
func (v value) member(key string) (value, bool) {
	for k, m := range v.members() {
		if string(k) == key {
			return m, true
		}
	}
	return nil, false
}
