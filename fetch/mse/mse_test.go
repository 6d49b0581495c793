package mse

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rc4"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ours = [20]byte{1, 2, 3}

var both = []Method{Plain, RC4}

// finds knows one info-hash.
func finds(match func([20]byte) bool) ([20]byte, bool) { return ours, match(ours) }

// ends are two ends of a TCP connection.
func ends(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// tap notes what is written.
type tap struct {
	net.Conn
	wrote bytes.Buffer
}

func (c *tap) Write(p []byte) (int, error) {
	c.wrote.Write(p)
	return c.Conn.Write(p)
}

func TestHandshake(t *testing.T) {
	for _, c := range []struct {
		name      string
		offer     Method
		accept    []Method
		key       [20]byte
		hidden    bool
		initiator error // nil for any where the receiver fails
		receiver  error
	}{
		{"both, plaintext first", Plain | RC4, []Method{Plain, RC4}, ours, false, nil, nil},
		{"both, RC4 first", Plain | RC4, []Method{RC4, Plain}, ours, true, nil, nil},
		{"required by the receiver", Plain | RC4, []Method{RC4}, ours, true, nil, nil},
		{"required by the initiator", RC4, []Method{Plain, RC4}, ours, true, nil, nil},
		{"plain", Plain, []Method{RC4, Plain}, ours, false, nil, nil},
		{"nothing in common", Plain, []Method{RC4}, ours, false, nil, ErrNoMethod},
		{"another torrent", RC4, []Method{RC4}, [20]byte{9}, false, nil, ErrNoKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			a, b := ends(t)
			tapped := &tap{Conn: a}
			type result struct {
				conn net.Conn
				err  error
			}
			received := make(chan result, 1)
			go func() {
				again, plain, err := Sniff(ctx, b)
				if plain {
					err = errors.New("taken for plaintext")
				}
				if err != nil {
					received <- result{nil, err}
					return
				}
				conn, err := Receive(ctx, again, c.accept, finds)
				received <- result{conn, err}
			}()
			x, err := Initiate(ctx, tapped, c.key, c.offer)
			y := <-received
			if !errors.Is(y.err, c.receiver) {
				t.Fatalf("the receiver ends with %v, want %v", y.err, c.receiver)
			}
			if c.receiver != nil {
				if err == nil {
					t.Fatal("the initiator succeeds")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			const message = "torrentfs here, a message "
			long := strings.Repeat(message, 5000)
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(x, long)
				sent <- err
			}()
			for _, pair := range [][2]net.Conn{{nil, y.conn}, {y.conn, x}} {
				if pair[0] != nil {
					go func() {
						_, err := io.WriteString(pair[0], long)
						sent <- err
					}()
				}
				got := make([]byte, len(long))
				if _, err := io.ReadFull(pair[1], got); err != nil {
					t.Fatal(err)
				}
				if string(got) != long {
					t.Error("what arrives is not what was sent")
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			}
			if hidden := !strings.Contains(tapped.wrote.String(), message); hidden != c.hidden {
				t.Errorf("hidden: %v, want %v", hidden, c.hidden)
			}
		})
	}
}

// TestGoingOnAfterADeadline has writes end at their deadlines, with some of what was encrypted sent and some not.
func TestGoingOnAfterADeadline(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	defer near.Close()
	key := []byte("any will do here")
	out, _ := rc4.NewCipher(key)
	in, _ := rc4.NewCipher(key)
	c := &conn{Conn: near, out: out}
	want := []byte(strings.Repeat("a message that is encrypted in more than one part ", 3*writeSize/50))
	got := make([]byte, len(want))
	taken := 0
	for rest := want; len(rest) > 0; {
		some := make(chan int, 1)
		go func() {
			n, _ := io.ReadFull(far, got[taken:min(taken+10_000, len(got))])
			_ = near.SetWriteDeadline(time.Unix(1, 0))
			some <- n
		}()
		n, err := c.Write(rest)
		if n == 0 {
			t.Fatal(err)
		}
		taken += <-some
		rest = rest[n:]
		_ = near.SetWriteDeadline(time.Time{})
	}
	in.XORKeyStream(got, got)
	if !bytes.Equal(got, want) {
		t.Error("what arrives is not what was sent")
	}
}

// TestEnds has handshakes end with their context, by what the peer sends, or when it leaves.
func TestEnds(t *testing.T) {
	a, b := ends(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(0, cancel)
	if _, err := Initiate(ctx, a, ours, RC4); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	b.Close()
	for name, sends := range map[string][]byte{
		"nothing": nil, "junk": bytes.Repeat([]byte("junk"), 1000), "zeros": make([]byte, 4000),
		"a short key": make([]byte, keySize-1), "the largest key": bytes.Repeat([]byte{0xff}, 4000),
	} {
		for side, shake := range map[string]func(net.Conn) (net.Conn, error){
			"dialled":   func(nc net.Conn) (net.Conn, error) { return Receive(t.Context(), nc, []Method{RC4}, finds) },
			"who dials": func(nc net.Conn) (net.Conn, error) { return Initiate(t.Context(), nc, ours, RC4) },
		} {
			a, b := ends(t)
			go func() {
				_, _ = b.Write(sends)
				_ = b.(*net.TCPConn).CloseWrite()
			}()
			if _, err := shake(a); err == nil {
				t.Errorf("%s to %s: no error", name, side)
			}
		}
	}
}

// TestHangUpAtEveryByte has who dials hang up after whichever byte of its handshake.
func TestHangUpAtEveryByte(t *testing.T) {
	secret := &secret{7}
	req1, proof := hash([]byte("req1"), secret[:]), secret.proof(ours)
	whole := bytes.Join([][]byte{[]byte("padding"), req1[:], proof[:], terms(secret.stream("keyA", ours), RC4, true)}, nil)
	for n := range whole {
		br := bufio.NewReaderSize(bytes.NewReader(whole[:n]), readSize)
		if _, err := secret.receive(mute{}, br, both, finds); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes of %d: %v", n, len(whole), err)
		}
	}
	if _, err := secret.receive(mute{}, bufio.NewReaderSize(bytes.NewReader(whole), readSize), both, finds); err != nil {
		t.Error(err)
	}
	for n := range keySize {
		br := bufio.NewReader(bytes.NewReader(bytes.Repeat([]byte{2}, n)))
		if _, err := agree(io.Discard, br, br); err == nil {
			t.Errorf("%d bytes of a key were taken", n)
		}
	}
}

// mute is a connection of which only the reading matters.
type mute struct{ net.Conn }

func (mute) Write(p []byte) (int, error) { return len(p), nil }

// FuzzReceive decrypts what a peer that knows the torrent may have sent after the exchange of keys.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("padding"), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x02pp\x00\x04initrest"))
	f.Add([]byte{}, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff"))
	for _, plain := range []string{
		"", "\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00\x00",
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00rest", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00rest",
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00",
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x05pp", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x09init",
	} {
		f.Add([]byte{}, []byte(plain))
	}
	for _, n := range []int{maxPad, maxPad + 1, maxPad + 100} {
		f.Add(bytes.Repeat([]byte{1}, n), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, pad, plain []byte) {
		s := &secret{7}
		req1, proof := hash([]byte("req1"), s[:]), s.proof(ours)
		body := bytes.Clone(plain)
		s.stream("keyA", ours).XORKeyStream(body, body)
		br := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(pad), bytes.NewReader(req1[:]), bytes.NewReader(proof[:]), bytes.NewReader(body)), readSize)
		c, err := s.receive(mute{}, br, both, finds)
		if err != nil {
			return
		}
		if len(pad) > maxPad {
			t.Fatalf("padding of %d bytes was taken", len(pad))
		}
		for c.br.Buffered() > 0 {
			if n, err := c.Read(make([]byte, 7)); n == 0 && err == nil {
				break
			}
		}
	})
}

// FuzzSniff: whatever a peer begins with, all of it is read again.
func FuzzSniff(f *testing.F) {
	f.Add([]byte(plainStart + "and more"))
	f.Add([]byte(plainStart))
	f.Add([]byte("\x13BitTorrent protocoL"))
	f.Add([]byte("GET / HTTP/1.1"))
	f.Add([]byte("\x13Bit"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		again, plain, err := Sniff(t.Context(), from{mute{}, bytes.NewReader(b)})
		if err != nil {
			if len(b) >= len(plainStart) {
				t.Fatal(err)
			}
			return
		}
		if plain != strings.HasPrefix(string(b), plainStart) {
			t.Errorf("%q: plain %v", b, plain)
		}
		if all, err := io.ReadAll(again); err != nil || !bytes.Equal(all, b) {
			t.Errorf("%q is read again as %q, %v", b, all, err)
		}
	})
}

// from is a connection that gives what a reader does.
type from struct {
	mute
	r io.Reader
}

func (c from) Read(p []byte) (int, error) { return c.r.Read(p) }
func (from) SetDeadline(time.Time) error  { return nil }
func (from) Close() error                 { return nil }

// FuzzInitiate decrypts what a peer that we dialled may answer.
func FuzzInitiate(f *testing.F) {
	f.Add([]byte("padding"), []byte("\x00\x00\x00\x02\x00\x02pprest"))
	for _, plain := range []string{"", "\x00\x00", "\x00\x00\x00\x01\x00\x00rest", "\x00\x00\x00\x03\x00\x00", "\x00\x00\x00\x04\x00\x00", "\x00\x00\x00\x02\xff\xff"} {
		f.Add([]byte{}, []byte(plain))
	}
	for _, n := range []int{maxPad, maxPad + 1, maxPad + 100} {
		f.Add(bytes.Repeat([]byte{1}, n), []byte("\x00\x00\x00\x02\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, pad, plain []byte) {
		s := &secret{7}
		body := append(make([]byte, 8), plain...)
		s.stream("keyB", ours).XORKeyStream(body, body)
		br := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(pad), bytes.NewReader(body)), readSize)
		c, err := s.initiate(mute{}, br, ours, Plain|RC4)
		if err == nil && len(pad) > maxPad {
			t.Fatalf("padding of %d bytes was taken", len(pad))
		}
		if err == nil && c == nil {
			t.Fatal("no connection")
		}
	})
}
