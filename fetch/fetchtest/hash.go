package fetchtest

import (
	"crypto/sha1"
	"runtime"
	"sync"
)

// Hash computes SHA-1 of n bytes in all on every core, from the processors' caches: what bounds whatever checks content.
func Hash(n int) {
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			for range n / len(buf) / runtime.GOMAXPROCS(0) {
				sha1.Sum(buf)
			}
		})
	}
	wg.Wait()
}
