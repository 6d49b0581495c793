package picker

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkBlock is what one block costs in the picker in the steady state: its arrival, and the Step that asks for the
// next. Peers deliver in turn, 64 MiB are wanted ahead, and each complete piece is followed by a new one.
func BenchmarkBlock(b *testing.B) {
	for _, c := range []struct {
		peers int
		piece int64
		some  bool // peers have half of the pieces each
	}{{4, mib, false}, {50, mib, false}, {50, mib, true}, {1000, mib, false}, {50, 16 * kib, false}, {1000, 16 * kib, false}, {1000, 16 * kib, true}} {
		b.Run(fmt.Sprintf("peers=%d/piece=%dKiB/some=%v", c.peers, c.piece/kib, c.some), func(b *testing.B) {
			l := newLoad(c.peers, c.piece, c.some)
			for range 20000 {
				l.block()
			}
			b.ReportAllocs()
			for b.Loop() {
				l.block()
			}
		})
	}
}

// load drives a Picker without a world around it, so that next to nothing else is measured.
type load struct {
	p     *Picker
	now   time.Duration
	gap   time.Duration
	lines [][]Request // in flight at each peer
	turn  int
	next  int // piece
}

func newLoad(peers int, piece int64, some bool) *load {
	const ahead = 64 * mib
	l := &load{p: New(1<<50, piece), gap: BlockSize * time.Second / (30 * mB), lines: make([][]Request, peers)}
	for i := range peers {
		l.p.AddPeer(i, 40*ms)
		if some {
			bits := make([]byte, 1<<20)
			for j := range bits {
				bits[j] = 0x55 << (i % 2)
			}
			l.p.SetBits(i, bits, false)
		} else {
			l.p.SetBits(i, nil, true)
		}
		l.p.SetChoked(i, false)
	}
	for range ahead / piece {
		l.want()
	}
	l.step()
	return l
}

func (l *load) want() {
	l.p.Want(l.next%(8<<20), Ahead, l.now+time.Duration(l.next))
	l.next++
}

func (l *load) step() {
	requests, cancels, _ := l.p.Step(l.now)
	for _, c := range cancels {
		line := l.lines[c.Peer]
		for i := range line {
			if line[i] == c {
				l.lines[c.Peer] = append(line[:i], line[i+1:]...)
				break
			}
		}
	}
	for _, r := range requests {
		l.lines[r.Peer] = append(l.lines[r.Peer], r)
	}
}

// block has the next block arrive.
func (l *load) block() {
	l.now += l.gap
	for range l.lines {
		l.turn = (l.turn + 1) % len(l.lines)
		if line := l.lines[l.turn]; len(line) > 0 {
			r := line[0]
			l.lines[l.turn] = append(line[:0], line[1:]...)
			if l.p.Received(r.Peer, r.Piece, r.Begin, r.Length, true, l.now) {
				l.p.Delivered(l.p.pieceLength)
				l.want()
			}
			break
		}
	}
	l.step()
}
