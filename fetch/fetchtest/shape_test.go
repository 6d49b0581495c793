package fetchtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// over carries what send writes over a direction of the link, in virtual time, and gives recv the other end.
func over(t *testing.T, link Link, send, recv func(net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		sender, in := net.Pipe()
		out, receiver := net.Pipe()
		d := direction{line: &line{rate: link.Rate}, delay: link.Delay, from: time.Now(),
			gate: func(context.Context) error { return nil }}
		done := make(chan error)
		go func() { done <- d.carry(t.Context(), out, in) }()
		go func() { send(sender); sender.Close() }()
		recv(receiver)
		if err := <-done; err != nil {
			t.Errorf("carry: %v", err)
		}
	})
}

func TestDelayIsPipelined(t *testing.T) {
	const n = 20
	start := time.Time{}
	over(t, Link{Delay: 100 * time.Millisecond}, func(c net.Conn) {
		start = time.Now()
		for range n { // one message every 10 ms: ten are under way at a time
			c.Write([]byte("message"))
			time.Sleep(10 * time.Millisecond)
		}
	}, func(c net.Conn) {
		buf := make([]byte, 7)
		for i := range n {
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Fatal(err)
			}
			want := time.Duration(i)*10*time.Millisecond + 100*time.Millisecond
			if got := time.Since(start); got != want {
				t.Errorf("message %d arrived after %v, want %v", i, got, want)
			}
		}
		io.Copy(io.Discard, c)
	})
}

func TestRate(t *testing.T) {
	for _, link := range []Link{
		{Rate: 50_000, Delay: 75 * time.Millisecond},
		{Rate: 8_000_000, Delay: 40 * time.Millisecond},
		{Rate: 40_000_000, Delay: 100 * time.Millisecond},
	} {
		size := int(2 * link.Rate)
		var start time.Time
		over(t, link, func(c net.Conn) {
			start = time.Now()
			c.Write(make([]byte, size))
		}, func(c net.Conn) {
			n, _ := io.Copy(io.Discard, c)
			took, ideal := time.Since(start), 2*time.Second+link.Delay
			if n != int64(size) || took > ideal || took < ideal-linkBurst {
				t.Errorf("%+v: %d of %d bytes in %v, want %v less at most %v", link, n, size, took, ideal, linkBurst)
			}
		})
	}
}

func TestIdleLineGainsOnlyTheBurst(t *testing.T) {
	l := line{rate: 1_000_000}
	now := time.Now()
	l.book(1, now, linkBurst)
	now = now.Add(time.Hour)
	if left := l.book(100_000, now, linkBurst); left.Sub(now) != 100*time.Millisecond-linkBurst {
		t.Errorf("100 kB at 1 MB/s left after %v", left.Sub(now))
	}
}

func TestConnectionsShareTheRate(t *testing.T) {
	l := line{rate: 1_000_000}
	now := time.Now()
	l.book(100_000, now, linkBurst)
	if left := l.book(100_000, now, linkBurst); left.Sub(now) != 200*time.Millisecond-linkBurst {
		t.Errorf("the second 100 kB left after %v", left.Sub(now))
	}
}

func TestReaderThatStandsStillHoldsTheSenderBack(t *testing.T) {
	link := Link{Rate: 1_000_000, Delay: 10 * time.Millisecond}
	var sent atomic.Int64
	over(t, link, func(c net.Conn) {
		buf := make([]byte, 1000)
		for range 5000 {
			n, _ := c.Write(buf)
			sent.Add(int64(n))
		}
	}, func(c net.Conn) {
		time.Sleep(time.Minute)
		room := (&line{rate: link.Rate}).under(link.Delay)
		if n := sent.Load(); n > room+maxParcel {
			t.Errorf("%d bytes went into a link that holds %d", n, room)
		}
		if n, _ := io.Copy(io.Discard, c); n != 5_000_000 {
			t.Errorf("%d of 5000000 bytes arrived", n)
		}
	})
}

// echo is a peer that sends back what it is sent.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func TestProxy(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	p, err := Shape("127.0.0.1:0", echo(t), Link{Delay: time.Millisecond, Rate: 100_000_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })

	want := make([]byte, 1<<20)
	rand.Read(want)
	c := dial(t, p)
	go func() { c.Write(want); c.CloseWrite() }()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came back, or other ones: %v", len(got), len(want), err)
	}
	if p.Delivered() != int64(len(want)) {
		t.Errorf("counted %d bytes of %d", p.Delivered(), len(want))
	}

	// Silent: nothing comes, the connection stays; what was under way comes once it is revived.
	c = dial(t, p)
	p.Silence()
	c.Write([]byte("hello"))
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(got[:5]); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a silent peer answered: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	if err := p.Revive(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got[:5]); err != nil || string(got[:5]) != "hello" {
		t.Fatalf("after revival: %q, %v", got[:5], err)
	}

	// Dead: connections end, new ones are refused; revived it is back at its address.
	p.Die()
	if _, err := c.Read(got); err == nil {
		t.Fatal("a dead peer answered")
	}
	if _, err := net.Dial("tcp", p.Addr()); err == nil {
		t.Fatal("a dead peer accepted")
	}
	if err := p.Revive(); err != nil {
		t.Fatal(err)
	}
	c = dial(t, p)
	c.Write([]byte("again"))
	if _, err := io.ReadFull(c, got[:5]); err != nil || string(got[:5]) != "again" {
		t.Fatalf("after revival: %q, %v", got[:5], err)
	}
}
