// Package heap measures what code under test takes of the heap. Nothing shipped imports it.
package heap

import "runtime"

// Allocated is the number of bytes that f allocates, freed or not. It counts what other goroutines allocate meanwhile too.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
