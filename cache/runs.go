package cache

// runs recognises pieces that are got as parts of a sequential run, for one torrent. It remembers the last few runs only:
// a player's position, its audio track's, a second reader's.
//
// The kernel's reads run a little out of order, and a reader who waited for a piece may be given it without getting it
// here. So a piece counts as continuing a run when it lies within slack pieces of it on either side.
type runs [8]run

// run is the half-open range of pieces [first, next); next == 0 marks an unused slot.
type run struct{ first, next int }

// place notes that a piece was got and returns how many pieces lie between it and the beginning of its run.
// 0 means that a seek landed here.
func (r *runs) place(piece, slack int) int {
	at := len(r) - 1
	found := run{piece, piece + 1}
	for i, old := range r {
		if old.next == 0 {
			at = i
			break
		}
		if piece >= old.first-slack && piece < old.next+slack {
			found = run{min(old.first, piece), max(old.next, piece+1)}
			at = i
			break
		}
	}
	copy(r[1:at+1], r[:at]) // the latest first
	r[0] = found
	return piece - found.first
}
