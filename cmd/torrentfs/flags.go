package main

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"torrentfs/fetch"
)

// The types of flag values. Each says in its error what would have been right.
var (
	_ pflag.Value = (*sizeValue)(nil)
	_ pflag.Value = (*rateValue)(nil)
	_ pflag.Value = (*durationValue)(nil)
	_ pflag.Value = (*countValue)(nil)
	_ pflag.Value = (*choiceValue)(nil)
	_ pflag.Value = (*hostPortValue)(nil)
	_ pflag.Value = (*listenValue)(nil)
	_ pflag.Value = (*deviceValue)(nil)
	_ pflag.Value = (*proxyValue)(nil)
)

// sizeValue is a number of bytes, written 64MiB, 10GB or 1048576.
type sizeValue int64

func (v *sizeValue) Set(s string) error {
	n, ok := parseSize(s)
	if !ok {
		return fmt.Errorf("%q is not a size; write 64MiB, 10GB or a number of bytes", s)
	}
	*v = sizeValue(n)
	return nil
}

func (v *sizeValue) String() string { return formatSize(int64(*v)) }
func (*sizeValue) Type() string     { return "SIZE" }

// rateValue is a number of bytes a second, written 5MB/s, 5MB or 5000000; 0 means no limit.
type rateValue int64

func (v *rateValue) Set(s string) error {
	const right = "write 5MB/s, 512KiB/s, or 0 for no limit"
	size := strings.TrimSpace(strings.TrimSuffix(s, "/s"))
	if bits.MatchString(size) {
		return fmt.Errorf("%q is in bits, but rates are in bytes; %s", s, right)
	}
	n, ok := parseSize(size)
	if !ok {
		return fmt.Errorf("%q is not a rate; %s", s, right)
	}
	*v = rateValue(n)
	return nil
}

// bits matches 40Mbit, 40mbps and 40Mb; 40mb is taken for bytes.
var bits = regexp.MustCompile(`(?i:bits?|bps)$|[KMGT]b$`)

func (v *rateValue) String() string {
	if *v == 0 {
		return "0"
	}
	return formatSize(int64(*v)) + "/s"
}
func (*rateValue) Type() string { return "RATE" }

// durationValue is a span of time longer than zero, written 30s, 2m or 1h30m.
type durationValue time.Duration

func (v *durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration; write 30s, 2m or 1h30m", s)
	}
	if d <= 0 {
		return fmt.Errorf("%s is not longer than zero", s)
	}
	*v = durationValue(d)
	return nil
}

func (v *durationValue) String() string {
	s := time.Duration(*v).String() // 2m0s, 1h0m0s
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "" || !unicode.IsLetter(rune(s[len(s)-1])) {
		return time.Duration(*v).String() // 10s, 0s: the zero belongs to the number
	}
	return s
}
func (*durationValue) Type() string { return "DUR" }

// countValue is a whole number from 1 up.
type countValue int

func (v *countValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a whole number from 1 up", s)
	}
	*v = countValue(n)
	return nil
}

func (v *countValue) String() string { return strconv.Itoa(int(*v)) }
func (*countValue) Type() string     { return "N" }

// choiceValue is one of a few words.
type choiceValue struct {
	value   string
	choices []string
}

func (v *choiceValue) Set(s string) error {
	for _, choice := range v.choices {
		if strings.EqualFold(s, choice) {
			v.value = choice
			return nil
		}
	}
	last := len(v.choices) - 1
	return fmt.Errorf("%q is none of %s and %s", s, strings.Join(v.choices[:last], ", "), v.choices[last])
}

func (v *choiceValue) String() string { return v.value }
func (v *choiceValue) Type() string   { return strings.Join(v.choices, "|") }

// hostPortValue is a list of addresses, one more with every use of the flag.
type hostPortValue []string

func (v *hostPortValue) Set(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || !validPort(port) {
		return fmt.Errorf("%q is not an address; write 192.0.2.7:6881, [2001:db8::7]:6881 or host.example:6881", s)
	}
	*v = append(*v, s)
	return nil
}

func (v *hostPortValue) String() string { return strings.Join(*v, ",") }
func (*hostPortValue) Type() string     { return "HOST:PORT" }

// listenValue is where to listen: a port, and an address of this host if not at all of them.
type listenValue string

func (v *listenValue) Set(s string) error {
	host, port, err := net.SplitHostPort(s)
	if _, bad := netip.ParseAddr(host); err != nil || host != "" && bad != nil || port != "0" && !validPort(port) {
		return fmt.Errorf("%q is not an address; write :6881, 192.0.2.7:6881 or [2001:db8::7]:6881", s)
	}
	*v = listenValue(s)
	return nil
}

func (v *listenValue) String() string { return string(*v) }
func (*listenValue) Type() string     { return "ADDR" }

// deviceValue is the name of a network interface. An empty one, as of a variable that is not set, is an error: it would
// leave everything unbound.
type deviceValue string

func (v *deviceValue) Set(s string) error {
	if s == "" {
		return fmt.Errorf("%q is not the name of a network interface; write eth0 or wg0, or leave the flag out for any", s)
	}
	*v = deviceValue(s)
	return nil
}

func (v *deviceValue) String() string { return string(*v) }
func (*deviceValue) Type() string     { return "IFACE" }

// proxyValue is a SOCKS5 proxy.
type proxyValue struct{ url *url.URL }

func (v *proxyValue) Set(s string) (err error) {
	v.url, err = fetch.ParseProxy(s)
	return err
}

func (v *proxyValue) String() string {
	if v.url == nil {
		return ""
	}
	return v.url.Redacted()
}
func (*proxyValue) Type() string { return "URL" }

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// parseSize returns the number of bytes that s names.
func parseSize(s string) (n int64, ok bool) {
	u, err := humanize.ParseBytes(s)
	if err != nil || u > math.MaxInt64 {
		return 0, false
	}
	return int64(u), true
}

// formatSize writes n the way parseSize reads it, exactly and as short as that goes.
func formatSize(n int64) string {
	units := []struct {
		size int64
		name string
	}{
		{humanize.TiByte, "TiB"}, {humanize.TByte, "TB"}, {humanize.GiByte, "GiB"}, {humanize.GByte, "GB"},
		{humanize.MiByte, "MiB"}, {humanize.MByte, "MB"}, {humanize.KiByte, "KiB"}, {humanize.KByte, "kB"},
	}
	for _, unit := range units {
		if n != 0 && n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}
