package cache

// This file is where the two tiers meet: the list of pieces to be written behind, and the moments when a piece
// leaves the disk. A piece is lost when it is in neither tier, which memory.mu decides.

// freshen queues a piece for the disk, unless the disk has it or can't take it.
func (m *memory) freshen(p *piece) {
	v := p.s.vol.Load()
	if v == nil || v.readOnly || v.has(p.n) || p.fresh != nil {
		return
	}
	p.fresh = m.fresh.PushBack(p)
	m.unwritten += int64(len(p.buf))
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// backlogShare is the part of memory that pieces may fill which wait to be written before Torrent.KeepsUp says no: half of
// what fresh pieces have for themselves.
const backlogShare = 4

// backlog returns the bytes that wait to be written.
func (m *memory) backlog() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unwritten
}

// stale takes a piece off the queue.
func (m *memory) stale(p *piece) {
	if p.fresh != nil {
		m.fresh.Remove(p.fresh)
		p.fresh = nil
		m.unwritten -= int64(len(p.buf))
	}
}

// nextFresh takes the first piece off the queue, and those that follow it in the torrent as long as they are fresh
// too and make no more than most bytes together. They stay pinned until release; s is nil when there is none.
func (m *memory) nextFresh(most int) (s *shelf, n int, bufs [][]byte, release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.fresh.Front()
	if first == nil {
		return nil, 0, nil, nil
	}
	p := first.Value.(*piece)
	s, n = p.s, p.n
	var releases []func()
	for p != nil && p.fresh != nil && (len(bufs) == 0 || most >= len(p.buf)) {
		m.stale(p)
		bufs = append(bufs, p.buf)
		releases = append(releases, m.pin(p))
		most -= len(p.buf)
		p = m.lookup(s, p.n+1)
	}
	return s, n, bufs, func() {
		for _, release := range releases {
			release()
		}
	}
}

// requeue puts pieces that could not be written back to where they were.
func (m *memory) requeue(s *shelf, n, count int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := n + count - 1; i >= n; i-- {
		if p := m.lookup(s, i); p != nil && p.fresh == nil {
			p.fresh = m.fresh.PushFront(p)
			m.unwritten += int64(len(p.buf))
		}
	}
}

// vacate clears a volume's claims on pieces, tells of those that are lost by it, and returns how many claims there were.
func (m *memory) vacate(s *shelf, v *volume, pieces []int) (claims int) {
	if len(pieces) == 0 {
		return 0
	}
	m.mu.Lock()
	defer m.unlock()
	for _, n := range pieces {
		if v.stamps[n].Swap(absent) == absent {
			continue
		}
		claims++
		if m.lookup(s, n) == nil {
			m.lose(s, n)
		}
	}
	return claims
}

// swapVolume gives a shelf other files, or none, and queues what memory has and they lack.
func (m *memory) swapVolume(s *shelf, v *volume) {
	m.mu.Lock()
	defer m.unlock()
	old := s.vol.Swap(v)
	if old != nil {
		for n := range old.stamps {
			if old.has(n) && !s.onDisk(n) && m.lookup(s, n) == nil {
				m.lose(s, n)
			}
		}
	}
	for _, seg := range []*segment{&m.probation, &m.protected} {
		for _, p := range seg.list.Values() {
			if p.s == s {
				m.stale(p)
				m.freshen(p)
			}
		}
	}
}
