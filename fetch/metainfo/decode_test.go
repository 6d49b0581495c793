package metainfo

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"torrentfs/fetch/fetchtest/heap"
)

// reply has a field of every kind that Decode knows.
type reply struct {
	Str    string            `bencode:"str"`
	Int    int               `bencode:"int"`
	Small  int8              `bencode:"small"`
	Port   uint16            `bencode:"port"`
	Strs   []string          `bencode:"strs"`
	Ints   []int64           `bencode:"ints"`
	Lists  [][]string        `bencode:"lists"`
	Any    []any             `bencode:"any"`
	Peers  Raw               `bencode:"peers"`
	M      map[string]int    `bencode:"m"`
	Names  map[string]string `bencode:"names"`
	Inner  inner             `bencode:"inner"`
	Inners []inner           `bencode:"inners"`
	NoTag  string
	Unused string `bencode:"-"`
}

type inner struct {
	IP string `bencode:"ip"`
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     reply
	}{
		{"nothing", "de", reply{}},
		{"string", "d3:str3:abce", reply{Str: "abc"}},
		{"bytes", "d3:str3:\x00\xff\x80e", reply{Str: "\x00\xff\x80"}},
		{"long string", "d3:str" + bstr(strings.Repeat("x", 100_000)) + "e", reply{Str: strings.Repeat("x", 100_000)}},
		{"string with a padded length", "d3:str" + strings.Repeat("0", 9000) + "3:abce", reply{Str: "abc"}},
		{"integer", "d3:inti-7ee", reply{Int: -7}},
		{"largest integer", "d3:inti9223372036854775807ee", reply{Int: math.MaxInt64}},
		{"list", "d4:strsl1:a0:1:bee", reply{Strs: []string{"a", "", "b"}}},
		{"empty list", "d4:strslee", reply{Strs: []string{}}},
		{"list of lists", "d5:listsll1:aeleee", reply{Lists: [][]string{{"a"}, {}}}},
		{"list of anything", "d3:anyl4:hosti80eee", reply{Any: []any{"host", int64(80)}}},
		{"raw string", "d5:peers6:abcdefe", reply{Peers: "6:abcdef"}},
		{"raw list", "d5:peersld2:ip1:xeee", reply{Peers: "ld2:ip1:xee"}},
		{"map", "d1:md11:ut_metadatai3e6:ut_pexi1eee", reply{M: map[string]int{"ut_metadata": 3, "ut_pex": 1}}},
		{"map of strings", "d5:namesd1:a1:bee", reply{Names: map[string]string{"a": "b"}}},
		{"struct", "d5:innerd2:ip1:xee", reply{Inner: inner{"x"}}},
		{"structs", "d6:innersld2:ip1:xed2:ip1:yeee", reply{Inners: []inner{{"x"}, {"y"}}}},
		{"no tag", "d5:NoTag1:xe", reply{NoTag: "x"}},

		{"string for an integer", "d3:int1:7e", reply{}},
		{"list for an integer", "d3:intlee", reply{}},
		{"integer for a string", "d3:stri1ee", reply{}},
		{"dictionary for a string", "d3:strdee", reply{}},
		{"integer for a list", "d4:strsi1ee", reply{}},
		{"string for a list", "d4:strs1:xe", reply{}},
		{"dictionary for a list", "d4:strsdee", reply{}},
		{"list for a struct", "d5:innerlee", reply{}},
		{"string for a struct", "d5:inner1:xe", reply{}},
		{"integer for a map", "d1:mi1ee", reply{}},
		{"wrong types in a list", "d4:strsl1:ai1ele1:bee", reply{Strs: []string{"a", "", "", "b"}}},
		{"wrong types in a list of integers", "d4:intsli1e1:x1:yi2eee", reply{Ints: []int64{1, 0, 0, 2}}},
		{"wrong types in a list of structs", "d6:innersli1ed2:ip1:xeee", reply{Inners: []inner{{}, {"x"}}}},
		{"wrong types in a list of lists", "d5:listsl1:xl1:aeee", reply{Lists: [][]string{{}, {"a"}}}},
		{"containers in a list of anything", "d3:anylle1:ade1:bee", reply{Any: []any{"", "a", "", "b"}}},
		{"wrong types in a map", "d1:md1:a1:x1:bi1eee", reply{M: map[string]int{"b": 1}}},

		{"integer past 64 bits", "d3:inti9223372036854775808ee", reply{}},
		{"integer below 64 bits", "d3:inti-9223372036854775809ee", reply{}},
		{"integer past its field", "d5:smalli128ee", reply{}},
		{"integer below its field", "d5:smalli-129ee", reply{}},
		{"integer at the border of its field", "d5:smalli-128ee", reply{Small: -128}},
		{"negative integer for an unsigned field", "d4:porti-1ee", reply{}},
		{"port 65536", "d4:porti65536ee", reply{}},
		{"port 65535", "d4:porti65535ee", reply{Port: 65535}},

		{"key in another case", "d3:Str1:x3:str1:ye", reply{Str: "y"}},
		{"key in another case alone", "d3:STR1:xe", reply{}},
		{"name of a field", "d6:Unused1:x1:-1:ye", reply{}},
		{"unknown keys", "d1:a1:x3:str1:y1:zd3:str1:nee", reply{Str: "y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got reply
			if err := Decode([]byte(c.in), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("\n got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestDecodeKeepsDefaults(t *testing.T) {
	v := reply{Int: -1, Str: "before"}
	if err := Decode([]byte("d3:int1:x5:otheri1ee"), &v); err != nil || v.Int != -1 || v.Str != "before" {
		t.Error(v, err)
	}
}

func TestDecodeOtherTargets(t *testing.T) {
	var list []string
	if err := Decode([]byte("l1:a1:be"), &list); err != nil || !reflect.DeepEqual(list, []string{"a", "b"}) {
		t.Error(list, err)
	}
	var s string
	if err := Decode([]byte("1:a"), &s); err != nil || s != "a" {
		t.Error(s, err)
	}
	var n int64
	if err := Decode([]byte("i-5e"), &n); err != nil || n != -5 {
		t.Error(n, err)
	}
	var raw Raw
	if err := Decode([]byte("d1:ai1ee"), &raw); err != nil || raw != "d1:ai1ee" {
		t.Error(raw, err)
	}
}

func TestDecodePrefix(t *testing.T) {
	var v reply
	rest, err := DecodePrefix([]byte("d3:inti2eepayload"), &v)
	if err != nil || v.Int != 2 || string(rest) != "payload" {
		t.Error(v, string(rest), err)
	}
}

// TestDecodeErrors holds what kills or misleads bencode-go by itself, among others.
func TestDecodeErrors(t *testing.T) {
	var hiding struct {
		Peers string `bencode:"peers6"`
		List  string `bencode:"peers"`
	}
	for _, c := range []struct {
		in   string
		v    any
		want string
	}{
		{"-1:", new(string), "unexpected character"},
		{"9223372036854775807:", new(string), "longer than what is left"},
		{strings.Repeat("l", 3<<20), new([]string), "nested deeper"},
		{"d3:str" + strings.Repeat("l", 3<<20), new(reply), "nested deeper"},
		{"", new(reply), "ends in the middle"},
		{"de ", new(reply), "1 bytes follow"},
		{"dede", new(reply), "2 bytes follow"},
		{"le", new(reply), "bencoding is a list"},
		{"i1e", new(string), "bencoding is an integer"},
		{"1:x", new(int), "bencoding is a string"},
		{"de", new([]string), "bencoding is a dictionary"},
		{"de", reply{}, "not a pointer"},
		{"de", nil, "not a pointer"},
		{"d1:ai1ee", new(map[string]int64), "not supported"},
		{"de", new(bool), "not supported"},
		{"le", new([]byte), "bytes are decoded into a string"},
		{"d5:peers1:xe", &hiding, "hides key"},
		{"d6:innersl" + strings.Repeat("de", 1<<20) + "ee", new(reply), "too many parts"},
		{"d5:listsl" + strings.Repeat("le", 1<<18) + "ee", new(reply), "too many parts"},
		{"d4:strsl" + strings.Repeat("0:", 1<<20) + "ee", new(reply), "too many parts"},
		{"d1:md" + numberedKeys(1<<18) + "ee", new(reply), "too many parts"},
	} {
		if err := Decode([]byte(c.in), c.v); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Decode(%.40q): error %v, want %q", c.in, err, c.want)
		}
	}
}

// TestScanAllocatesNothing looks at the memory that hostile bytes make the scan take.
func TestScanAllocatesNothing(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("l", 1<<20),
		"9223372036854775807:x",
		"l" + strings.Repeat("le", 1<<20) + "e",
		"l" + strings.Repeat("de", 1<<20) + "e",
		"l" + strings.Repeat("0:", 1<<20) + "e",
		strings.Repeat("d0:", 1<<20),
	} {
		b := []byte(in)
		if n := heap.Allocated(func() { scan(b) }); n > 64<<10 {
			t.Errorf("scan of %.10q... took %d bytes", in, n)
		}
	}
	b := []byte("d" + numberedKeys(1<<17) + "e") // out of order, so that they must be sorted
	if n := heap.Allocated(func() { scan(b) }); n > 4*uint64(len(b)) {
		t.Errorf("scan of %d bytes of keys took %d bytes", len(b), n)
	}
}

// numberedKeys is n members of a dictionary, in falling order.
func numberedKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "8:%08xi0e", n-i)
	}
	return b.String()
}
