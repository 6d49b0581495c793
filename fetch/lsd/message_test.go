package lsd

import (
	"reflect"
	"strings"
	"testing"

	"torrentfs/fetch/fetchtest/heap"
)

const hash40 = "0123456789abcdef0123456789ABCDEF01234567"

var hash = [20]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67}

var messages = []struct {
	name, in string
	want     announcement
	err      string
}{
	{"as in BEP 14", "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: " + hash40 + "\r\ncookie: c0ffee\r\n\r\n\r\n",
		announcement{6881, [][20]byte{hash}, "c0ffee"}, ""},
	{"no cookie", "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{1, [][20]byte{hash}, ""}, ""},
	{"two torrents", "BT-SEARCH * HTTP/1.1\r\nInfohash: " + hash40 + "\r\nInfohash: " + hash40 + "\r\nPort: 65535\r\n\r\n",
		announcement{65535, [][20]byte{hash, hash}, ""}, ""},
	{"case and blanks", "BT-SEARCH * HTTP/1.1\r\nINFOHASH:\t" + hash40 + " \r\nport:7\r\n\r\n", announcement{7, [][20]byte{hash}, ""}, ""},
	{"unknown header", "BT-SEARCH * HTTP/1.1\r\nX: y: z\r\nPort: 7\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{7, [][20]byte{hash}, ""}, ""},
	{"bytes that follow", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + hash40 + "\r\n\r\n\x00junk", announcement{7, [][20]byte{hash}, ""}, ""},

	{"empty", "", announcement{}, "no end"},
	{"another method", "M-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "not BT-SEARCH"},
	{"another version", "BT-SEARCH * HTTP/1.0\r\nPort: 7\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "not BT-SEARCH"},
	{"first line alone", "BT-SEARCH * HTTP/1.1\r\n\r\n", announcement{}, "has no colon"},
	{"bare newlines", "BT-SEARCH * HTTP/1.1\nPort: 7\nInfohash: " + hash40 + "\n\n", announcement{}, "no end"},
	{"cut off", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + hash40 + "\r\n", announcement{}, "no end"},
	{"no port", "BT-SEARCH * HTTP/1.1\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "lacks a port"},
	{"no info-hash", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\n\r\n", announcement{}, "lacks a port"},
	{"port 0", "BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "not one port"},
	{"port 65536", "BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "not one port"},
	{"port with a sign", "BT-SEARCH * HTTP/1.1\r\nPort: +7\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "not one port"},
	{"port by name", "BT-SEARCH * HTTP/1.1\r\nPort: http\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "not one port"},
	{"two ports", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nPort: 7\r\nInfohash: " + hash40 + "\r\n\r\n", announcement{}, "not one port"},
	{"short info-hash", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + hash40[1:] + "\r\n\r\n", announcement{}, "39 digits"},
	{"info-hash of v2", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + hash40 + hash40[:24] + "\r\n\r\n", announcement{}, "64 digits"},
	{"info-hash in base32", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + strings.Repeat("A", 32) + "\r\n\r\n", announcement{}, "32 digits"},
	{"info-hash of other digits", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + strings.Repeat("g", 40) + "\r\n\r\n", announcement{}, "not hexadecimal"},
	{"long cookie", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + hash40 + "\r\ncookie: " + strings.Repeat("c", 65) + "\r\n\r\n", announcement{}, "cookie"},
	{"many headers", "BT-SEARCH * HTTP/1.1\r\n" + strings.Repeat("a: b\r\n", 65) + "Port: 7\r\n\r\n", announcement{}, "headers"},
	{"too long", "BT-SEARCH * HTTP/1.1\r\nX: " + strings.Repeat("x", 1500) + "\r\n\r\n", announcement{}, "longer than"},
}

func TestParse(t *testing.T) {
	for _, c := range messages {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse([]byte(c.in))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range messages {
		f.Add([]byte(c.in))
	}
	f.Add([]byte("BT-SEARCH * HTTP/1.1\r\nPort: 7\r\n" + strings.Repeat("Infohash: "+hash40+"\r\n", maxHashes+1) + "\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if took := heap.Allocated(func() { _, _ = parse(b) }); took > 16<<10+16*uint64(len(b)) {
			t.Errorf("%d bytes allocated for %d", took, len(b))
		}
		a, err := parse(b)
		if err != nil {
			if !reflect.DeepEqual(a, announcement{}) {
				t.Errorf("%+v along with %v", a, err)
			}
			return
		}
		if a.port == 0 || len(a.hashes) == 0 || len(a.hashes) > maxHashes || len(a.cookie) > maxCookie {
			t.Errorf("%q gave %+v", b, a)
		}
		printed := a.encode("239.192.152.143:6771")
		again, err := parse(printed)
		if len(printed) <= maxMessage && (err != nil || !reflect.DeepEqual(again, a)) {
			t.Errorf("%q became %+v, %v", printed, again, err)
		}
	})
}

// TestSize has our own messages be of a size that transmission reads.
func TestSize(t *testing.T) {
	for _, group := range []string{"239.192.152.143:6771", "[ff15::efc0:988f]:6771"} {
		b := announcement{65535, [][20]byte{hash}, "0123456789abcdef"}.encode(group)
		if len(b) >= 200 || !strings.HasSuffix(string(b), "\r\n\r\n\r\n") {
			t.Errorf("%d bytes: %q", len(b), b)
		}
	}
}
