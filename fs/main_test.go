package fs

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests or, in a process that startServer made, the mount that a test looks at. A mount is
// never served by the process that tests it: a read that hangs would take the test with it, beyond the reach of
// any time-out.
func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		os.Exit(serve())
	}
	goleak.VerifyTestMain(m)
}
