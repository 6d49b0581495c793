package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// sampleName is the name of the torrent that demo makes.
const sampleName = "torrentfs-demo"

// sample is what demo shares: each file below the folder, and what writes it.
var sample = []struct {
	path  string
	write func(io.Writer) error
}{
	{"read-me.txt", text(`This file came out of a BitTorrent swarm.

Three seeders and a tracker run inside 'torrentfs demo', on the loopback interface. They speak the same
protocol as any others, and what you read here was asked from them block by block, checked against the hashes
in the torrent, and kept in memory. What nobody reads is never downloaded.
`)},
	{"chime.wav", writeChime},
	{"random.bin", writeRandom},
	{"more/what-to-try.txt", text(`Read a piece from the middle of a big file:
    dd if=random.bin bs=1M skip=40 count=1 | sha256sum
Listen:
    mpv chime.wav
Copy everything:
    cp -r . /tmp/copy
`)},
}

// makeSample writes the sample into the new folder dir. It is the same bytes each time.
func makeSample(dir string) error {
	for _, s := range sample {
		if err := makeFile(filepath.Join(dir, filepath.FromSlash(s.path)), s.write); err != nil {
			return err
		}
	}
	return nil
}

func makeFile(path string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	return w.Flush()
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// writeRandom writes 64 MiB that look random.
func writeRandom(w io.Writer) error {
	_, err := io.CopyN(w, rand.NewChaCha8([32]byte([]byte("torrentfs demo: always the same "))), 64<<20)
	return err
}

// writeChime writes a WAV file of a few bells, in 16-bit mono.
func writeChime(w io.Writer) error {
	const (
		rate   = 44100 // samples a second
		length = 6 * time.Second
		apart  = 400 * time.Millisecond // from one bell to the next
	)
	bells := []float64{523.25, 659.26, 783.99, 1046.5, 783.99, 1046.5, 1318.51} // hertz
	partials := []struct{ ratio, volume, decay float64 }{{1, 0.6, 1.6}, {2.01, 0.25, 3}, {3.02, 0.15, 6}}

	samples := int(length.Seconds() * rate)
	sound := make([]float64, samples)
	for i, pitch := range bells {
		for n := i * int(apart.Seconds()*rate); n < samples; n++ {
			t := float64(n)/rate - float64(i)*apart.Seconds()
			for _, p := range partials {
				sound[n] += p.volume * math.Exp(-p.decay*t) * math.Sin(2*math.Pi*pitch*p.ratio*t)
			}
		}
	}
	pcm := make([]int16, samples)
	for n, v := range sound {
		fade := min(1, float64(samples-n)/rate) // silent at the end, without a click
		pcm[n] = int16(math.Tanh(v/2) * fade * 0.8 * math.MaxInt16)
	}

	const sampleSize = 2 // bytes
	header := struct {
		RIFF          [4]byte
		Rest          uint32
		WAVE, Fmt     [4]byte
		FmtSize       uint32
		PCM, Channels uint16
		Rate, Speed   uint32
		Align, Bits   uint16
		Data          [4]byte
		DataSize      uint32
	}{
		[4]byte([]byte("RIFF")), uint32(36 + samples*sampleSize), [4]byte([]byte("WAVE")), [4]byte([]byte("fmt ")), 16,
		1, 1, rate, rate * sampleSize, sampleSize, 8 * sampleSize, [4]byte([]byte("data")), uint32(samples * sampleSize),
	}
	if err := binary.Write(w, binary.LittleEndian, header); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, pcm)
}
