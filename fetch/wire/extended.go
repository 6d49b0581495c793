package wire

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strconv"

	"torrentfs/fetch/metainfo"
)

// Names of the extensions that torrentfs speaks, as the extension handshake's dictionary `m` has them.
const (
	ExtMetadata = "ut_metadata" // BEP 9
	ExtPEX      = "ut_pex"      // BEP 11
	ExtDontHave = "lt_donthave" // BEP 54
	ExtClaims   = "tf_claims"   // see Claims
)

// The numbers under which our side takes these extensions' messages. They are the same wherever it speaks, since a
// connection may pass from the search for metadata to the swarm.
const (
	OurMetadata = 1
	OurPEX      = 2
	OurDontHave = 3
	OurClaims   = 4
)

// ExtendedHandshake is the payload of extended message 0 (BEP 10).
type ExtendedHandshake struct {
	Messages     map[string]uint8 // extension name -> the number its sender wants it under; 0 switches it off
	Port         uint16           // where the sender accepts connections; 0 unknown
	Version      string           // the client's name and version
	ReqQ         int              // requests that the sender queues; 0 not said
	MetadataSize int64            // bytes of the info dictionary (BEP 9); 0 not said
	UploadOnly   bool             // wants nothing (BEP 21)
}

// extendedDict is how ExtendedHandshake stands in bencode.
type extendedDict struct {
	M            map[string]int `bencode:"m"`
	P            int64          `bencode:"p"`
	V            string         `bencode:"v"`
	ReqQ         int64          `bencode:"reqq"`
	MetadataSize int64          `bencode:"metadata_size"`
	UploadOnly   int64          `bencode:"upload_only"`
}

// maxReqQ keeps a peer's boast from sizing anything.
const maxReqQ = 1 << 16

// ParseExtendedHandshake reads a peer's extension handshake. Numbers out of range count as not said.
func ParseExtendedHandshake(b []byte) (ExtendedHandshake, error) {
	var d extendedDict
	if err := metainfo.Decode(b, &d); err != nil {
		return ExtendedHandshake{}, fmt.Errorf("%w: extension handshake: %w", ErrMalformed, err)
	}
	h := ExtendedHandshake{Messages: make(map[string]uint8), UploadOnly: d.UploadOnly != 0}
	for _, name := range []string{ExtMetadata, ExtPEX, ExtDontHave, ExtClaims} {
		if n := d.M[name]; n > 0 && n <= 255 {
			h.Messages[name] = uint8(n)
		}
	}
	if d.P > 0 && d.P <= 65535 {
		h.Port = uint16(d.P)
	}
	if d.ReqQ > 0 {
		h.ReqQ = int(min(d.ReqQ, maxReqQ))
	}
	if d.MetadataSize > 0 {
		h.MetadataSize = d.MetadataSize
	}
	h.Version = d.V[:min(len(d.V), 64)]
	return h, nil
}

// Append appends the handshake in bencode, its keys in order; what is zero is left out.
func (h ExtendedHandshake) Append(b []byte) []byte {
	integer := func(key string, n int64) {
		if n != 0 {
			b = appendString(b, key)
			b = appendInt(b, n)
		}
	}
	b = append(b, 'd')
	b = appendString(b, "m")
	b = append(b, 'd')
	names := make([]string, 0, len(h.Messages))
	for name := range h.Messages {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		b = appendString(b, name)
		b = appendInt(b, int64(h.Messages[name]))
	}
	b = append(b, 'e')
	integer("metadata_size", h.MetadataSize)
	integer("p", int64(h.Port))
	integer("reqq", int64(h.ReqQ))
	if h.UploadOnly {
		integer("upload_only", 1)
	}
	if h.Version != "" {
		b = appendString(b, "v")
		b = appendString(b, h.Version)
	}
	return append(b, 'e')
}

func appendString(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}

func appendInt(b []byte, n int64) []byte {
	b = append(b, 'i')
	b = strconv.AppendInt(b, n, 10)
	return append(b, 'e')
}

// ParseDontHave reads the payload of lt_donthave: the index of a piece that its sender has no more (BEP 54).
func ParseDontHave(b []byte) (index uint32, ok bool) {
	if len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}
