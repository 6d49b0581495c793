package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

func TestSample(t *testing.T) {
	dir := t.TempDir()
	if err := makeSample(dir); err != nil {
		t.Fatal(err)
	}
	random, err := os.ReadFile(filepath.Join(dir, "random.bin"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(random)
	if len(random) != 64<<20 || hex.EncodeToString(sum[:4]) != "37277e37" {
		t.Errorf("%d bytes with the hash %x: the sample is not what it always was", len(random), sum)
	}
	wav, err := os.ReadFile(filepath.Join(dir, "chime.wav"))
	if err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint32(wav[4:]); int(got) != len(wav)-8 {
		t.Errorf("RIFF says %d bytes of %d", got, len(wav))
	}
	if got := binary.LittleEndian.Uint32(wav[40:]); int(got) != len(wav)-44 {
		t.Errorf("data says %d bytes of %d", got, len(wav))
	}
	loudest := int16(0)
	for i := 44; i < len(wav); i += 2 {
		loudest = max(loudest, int16(binary.LittleEndian.Uint16(wav[i:])))
	}
	if loudest < 10000 {
		t.Errorf("it is hardly heard: %d", loudest)
	}
}
