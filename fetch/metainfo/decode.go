package metainfo

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	bencode "github.com/jackpal/bencode-go"
)

// Raw is a field's value left undecoded, for keys whose value is of one type here and of another there, such as
// the peers of a tracker's reply: decode it again into what it may be. It is empty where the key is absent.
type Raw string

var rawType = reflect.TypeFor[Raw]()

// Decode reads the one bencoded value in b into what v points to. It is safe for strangers' bytes: b is first
// scanned (see scan), so that malformed, deep or trailing bytes are an error, and what fits no part of v is left
// out. The caller bounds the length of b; the memory taken is a few times that, and 16 MiB at most beside it.
//
// v points to a struct (keys are named by `bencode:"..."` tags and matched exactly), slice, string, integer,
// Raw, map[string]int or map[string]string, or to a mixture of these; an element of type any takes a string
// or an integer. A value of another type than its field, or out of the field's range, counts as absent, the
// way other clients read it: its field keeps what it had, and as an element of a list it becomes a zero.
func Decode(b []byte, v any) error {
	rest, err := DecodePrefix(b, v)
	if err == nil && len(rest) > 0 {
		return fmt.Errorf("malformed bencoding: %d bytes follow the value", len(rest))
	}
	return err
}

// DecodePrefix is Decode of the value that b begins with. It returns what follows it, for messages which carry
// a payload after a dictionary (BEP 9).
func DecodePrefix(b []byte, v any) (rest []byte, err error) {
	scanned, rest, err := scan(b)
	if err != nil {
		return nil, err
	}
	return rest, decode(scanned, v)
}

// decode hands bencode-go the part of a scanned value that v has room for. bencode-go panics on a type it does
// not expect, takes any case of a key for the key, and wraps integers around; it never meets any of that here.
func decode(scanned value, v any) (err error) {
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer {
		return fmt.Errorf("cannot decode into %v: not a pointer", t)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot decode bencoding into %v: %v", t, r)
		}
	}()
	f := fitter{budget: maxParts}
	switch fits := f.fit(scanned, t.Elem()); {
	case f.budget < 0:
		return errors.New("bencoding has too many parts")
	case !fits:
		return errors.New("bencoding is " + scanned.kind() + ", which is not expected here")
	}
	// With a bufio.Reader of our own nothing is left behind in bencode-go's pool.
	return bencode.Unmarshal(bufio.NewReader(bytes.NewReader(f.out)), v)
}

func (v value) kind() string {
	switch v[0] {
	case 'd':
		return "a dictionary"
	case 'l':
		return "a list"
	case 'i':
		return "an integer"
	default:
		return "a string"
	}
}

// maxParts bounds the memory, in bytes, of the elements of all lists and maps that one Decode makes. Two bytes
// of bencoding can become an element of any size, so the length of the input is no bound.
const maxParts = 16 << 20

// fitter writes the part of a value that a type can hold.
type fitter struct {
	out    []byte // in bencoding
	budget int    // what is left of maxParts; the work ends when it is spent
}

// fit writes what of v a variable of type t can hold. It reports whether v is of the right kind for t, and
// writes nothing if not.
func (f *fitter) fit(v value, t reflect.Type) bool {
	if t == rawType {
		f.out = appendString(f.out, v)
		return true
	}
	switch t.Kind() {
	case reflect.String:
		s, ok := v.str()
		return f.str(s, ok)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := v.integer()
		return f.integer(n, ok && !t.OverflowInt(n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, ok := v.integer()
		return f.integer(n, ok && n >= 0 && !t.OverflowUint(uint64(n)))
	case reflect.Interface:
		if s, ok := v.str(); ok {
			return f.str(s, ok)
		}
		n, ok := v.integer()
		return f.integer(n, ok)
	case reflect.Slice:
		return f.list(v, t.Elem())
	case reflect.Struct:
		fields := fieldsOf(t)
		return f.dict(v, func(key []byte) reflect.Type { return fields[string(key)] })
	case reflect.Map:
		if t != reflect.TypeFor[map[string]int]() && t != reflect.TypeFor[map[string]string]() {
			break
		}
		return f.dict(v, func(key []byte) reflect.Type {
			f.budget -= 64 + len(key) // about what a map takes for an entry
			return t.Elem()
		})
	}
	panic("type " + t.String() + " is not supported")
}

func (f *fitter) str(s []byte, ok bool) bool {
	if ok {
		f.out = appendString(f.out, s)
	}
	return ok
}

func (f *fitter) integer(n int64, ok bool) bool {
	if ok {
		f.out = strconv.AppendInt(append(f.out, 'i'), n, 10)
		f.out = append(f.out, 'e')
	}
	return ok
}

func (f *fitter) list(v value, elem reflect.Type) bool {
	if elem.Kind() == reflect.Uint8 {
		panic("bytes are decoded into a string")
	}
	if !v.isList() {
		return false
	}
	f.budget -= 8 * int(elem.Size()) // with which bencode-go begins
	f.out = append(f.out, 'l')
	for e := range v.elements() {
		if f.budget -= 2 * int(elem.Size()); f.budget < 0 {
			return false
		}
		if !f.fit(e, elem) {
			f.out = append(f.out, zero(elem)...)
		}
	}
	f.out = append(f.out, 'e')
	return true
}

// dict writes those members of a dictionary that have a type and fit it.
func (f *fitter) dict(v value, typeOf func(key []byte) reflect.Type) bool {
	if !v.isDict() {
		return false
	}
	f.out = append(f.out, 'd')
	for key, member := range v.members() {
		t := typeOf(key)
		if f.budget < 0 {
			return false
		}
		if begin := len(f.out); t != nil {
			f.out = appendString(f.out, key)
			if !f.fit(member, t) {
				f.out = f.out[:begin]
			}
		}
	}
	f.out = append(f.out, 'e')
	return true
}

// zero keeps the place of an element that does not fit, so that those behind it keep theirs.
func zero(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String, reflect.Interface:
		return "0:"
	case reflect.Slice:
		return "le"
	case reflect.Struct, reflect.Map:
		return "de"
	default:
		return "i0e"
	}
}

// structs holds the fields of each type of struct seen, as fieldsOf returns them.
var structs sync.Map

// fieldsOf is the types of the fields of struct t by their keys. It panics where bencode-go, which compares keys
// without case and with the names of fields too, would take another field for the one meant.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := structs.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	fields := make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		if key := keyOf(f); key != "-" {
			for j := range i {
				if before := t.Field(j); strings.EqualFold(keyOf(before), key) || strings.EqualFold(before.Name, key) {
					panic(fmt.Sprintf("field %s hides key %q", before.Name, key))
				}
			}
			fields[key] = f.Type
		}
	}
	structs.Store(t, fields)
	return fields
}

func keyOf(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("bencode"), ",")
	return cmp.Or(key, f.Name)
}

func appendString(dst, s []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, ':')
	return append(dst, s...)
}
