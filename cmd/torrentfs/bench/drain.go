package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// drain is the reader that shows what the swarm can give: it asks every peer for blocks without end, looks
// at none of them and keeps nothing. It runs in this process and so has no memory or CPU of its own.
var drain = reader{name: "drain", about: "what the swarm can give: a reader that discards every byte unseen", download: drainDownload}

func drainDownload(ctx context.Context, _ *bench, s *swarm, t *torrent, _ string, limit time.Duration) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, min(limit, 8*time.Second))
	defer cancel()
	var got, next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	failed := make(chan error, len(s.peers))
	for _, addr := range s.peers {
		wg.Go(func() {
			if err := drainPeer(ctx, addr, t, &next, &got); err != nil && ctx.Err() == nil {
				failed <- err
			}
			if got.Load() >= t.size {
				cancel()
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	select {
	case err := <-failed:
		return Sample{}, err
	default:
	}
	return Sample{Bytes: got.Load(), Rate: float64(got.Load()) / took}, nil
}

// drainPeer keeps a deep queue of requests at one peer until as many bytes came as the torrent has.
func drainPeer(ctx context.Context, addr netip.AddrPort, t *torrent, next, got *atomic.Int64) error {
	const block, deep = 16 << 10, 1000
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()

	hello := append([]byte("\x13BitTorrent protocol\x00\x00\x00\x00\x00\x00\x00\x00"), t.hash[:]...)
	hello = append(hello, "-DR0001-benchmarks42"...)
	hello = append(hello, 0, 0, 0, 1, 2) // interested
	if _, err := c.Write(hello); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, 256<<10)
	if _, err := r.Discard(68); err != nil {
		return err
	}
	var requests []byte
	ask := func(n int) error {
		requests = requests[:0]
		for range n {
			off := next.Add(1) * block % (t.size / block * block)
			requests = append(requests, 0, 0, 0, 13, 6)
			requests = binary.BigEndian.AppendUint32(requests, uint32(off/t.piece))
			requests = binary.BigEndian.AppendUint32(requests, uint32(off%t.piece))
			requests = binary.BigEndian.AppendUint32(requests, block)
		}
		_, err := c.Write(requests)
		return err
	}
	var head [4]byte
	for owed := 0; got.Load() < t.size; {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if n == 0 {
			continue
		}
		id, err := r.ReadByte()
		if err != nil {
			return err
		}
		if n > 1<<20 {
			return errors.New("a message too long")
		}
		if _, err := r.Discard(n - 1); err != nil {
			return err
		}
		switch id {
		case 1: // unchoke
			err = ask(deep)
		case 7: // piece
			got.Add(int64(n - 9))
			if owed++; owed == 32 {
				owed = 0
				err = ask(32)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
