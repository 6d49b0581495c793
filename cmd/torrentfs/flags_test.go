package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "1024": 1024, "64MiB": 64 << 20, "64mib": 64 << 20, "64 MiB": 64 << 20, "10GB": 10e9,
		"1.5GiB": 3 << 29, "512K": 512e3, "1TiB": 1 << 40, "7B": 7, "64M": 64e6, "1,000": 1000,
	} {
		var v sizeValue
		if err := v.Set(in); err != nil || int64(v) != want {
			t.Errorf("%q: %d, %v, want %d", in, int64(v), err, want)
		}
	}
	for _, in := range []string{"", "-1", "64XB", "lots", "1e3", "MiB", "9EiB", "99999999999GB", "0x10", "1/2"} {
		v := sizeValue(7)
		err := v.Set(in)
		if err == nil || v != 7 || !strings.Contains(err.Error(), "write 64MiB") {
			t.Errorf("%q: %d, %v", in, int64(v), err)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for want, in := range map[string]int64{
		"0": 0, "1": 1, "1023": 1023, "1KiB": 1 << 10, "1kB": 1000, "256MiB": 256 << 20, "10GB": 10e9, "1GiB": 1 << 30,
		"1TiB": 1 << 40, "3TB": 3e12, "1048577": 1<<20 + 1,
	} {
		if got := formatSize(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
		var v sizeValue
		if err := v.Set(want); err != nil || int64(v) != in {
			t.Errorf("%s reads as %d, %v", want, int64(v), err)
		}
	}
}

func TestRates(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "5MB/s": 5e6, "5MB": 5e6, "5 MB/s": 5e6, "512KiB/s": 512 << 10, "100": 100, "5mb/s": 5e6, "2M/s": 2e6,
	} {
		var v rateValue
		if err := v.Set(in); err != nil || int64(v) != want {
			t.Errorf("%q: %d, %v, want %d", in, int64(v), err, want)
		}
	}
	for in, want := range map[string]string{
		"40Mbit/s": "in bits", "40mbps": "in bits", "40Mb/s": "in bits", "5 kbit": "in bits",
		"fast": "not a rate", "": "not a rate", "/s": "not a rate", "-5MB/s": "not a rate", "5MB/h": "not a rate",
	} {
		var v rateValue
		if err := v.Set(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
	if v := rateValue(5e6); v.String() != "5MB/s" {
		t.Error(v.String())
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]string{
		"2m": "2m", "30s": "30s", "1h30m": "1h30m", "1h": "1h", "90s": "1m30s", "1.5s": "1.5s", "10m": "10m",
		"1h0m10s": "1h0m10s", "20h": "20h", "100ms": "100ms",
	} {
		var v durationValue
		d, _ := time.ParseDuration(in)
		if err := v.Set(in); err != nil || time.Duration(v) != d || v.String() != want {
			t.Errorf("%q: %v shown as %s, %v", in, time.Duration(v), v.String(), err)
		}
	}
	for _, in := range []string{"", "30", "soon", "-1s", "0", "0s"} {
		var v durationValue
		if err := v.Set(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}

func TestOtherValues(t *testing.T) {
	tests := []struct {
		value pflag.Value
		in    string
		want  string // "" is accepted
	}{
		{new(countValue), "1", ""},
		{new(countValue), "0", "not a whole number from 1 up"},
		{new(countValue), "many", "not a whole number from 1 up"},
		{&choiceValue{"", []string{"text", "json"}}, "JSON", ""},
		{&choiceValue{"", []string{"text", "json", "xml"}}, "yaml", `"yaml" is none of text, json and xml`},
		{new(hostPortValue), "192.0.2.7:6881", ""},
		{new(hostPortValue), "[2001:db8::7]:6881", ""},
		{new(hostPortValue), "host.example:1", ""},
		{new(hostPortValue), "host.example", "not an address"},
		{new(hostPortValue), ":6881", "not an address"},
		{new(hostPortValue), "host:0", "not an address"},
		{new(hostPortValue), "host:65536", "not an address"},
		{new(hostPortValue), "2001:db8::7:6881", "not an address"},
	}
	for _, test := range tests {
		err := test.value.Set(test.in)
		if test.want == "" && err != nil {
			t.Errorf("%T %q: %v", test.value, test.in, err)
		}
		if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%T %q: %v, want %q", test.value, test.in, err, test.want)
		}
	}
	var peers hostPortValue
	for _, peer := range []string{"a:1", "b:2"} {
		if err := peers.Set(peer); err != nil {
			t.Fatal(err)
		}
	}
	if peers.String() != "a:1,b:2" {
		t.Error(peers.String())
	}
}
