package tracker

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample is a request whose fields all differ.
func sample() Request {
	r := Request{
		Port: 6881, Uploaded: 11, Downloaded: 22, Left: 33, Event: Started, NumWant: 44, Key: 0x0a0b0c0d,
	}
	copy(r.InfoHash[:], "\x00\xff %+&=?#/~.-_abcXYZ")
	copy(r.PeerID[:], "-TF0001-0123456789ab")
	return r
}

// newClient returns a client that the test closes.
func newClient(t testing.TB, opt ClientOptions) *Client {
	t.Helper()
	c := NewClient(opt)
	t.Cleanup(c.Close)
	return c
}

// announce makes one announce that can't hang the test.
func announce(t testing.TB, c *Client, url string, r Request) (Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return c.Announce(ctx, url, r)
}
