package e2e

import (
	"os"
	"time"
)

// faultsVar names the environment variable that asks for the long forms of the tests of faults; `make faults` sets it.
const faultsVar = "TORRENTFS_FAULTS"

// extent gives the one or the other, as the short or the long form is asked for.
func extent[T any](short, long T) T {
	if os.Getenv(faultsVar) != "" {
		return long
	}
	return short
}

// away is for how long something is not there.
func away() time.Duration { return extent(3*time.Second, time.Minute) }
