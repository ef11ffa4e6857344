package main

import (
	"os"
	"testing"
)

// TestMain lets the test binary stand in for the program: tests of whole
// processes, and the store that such a process starts, need no other build.
func TestMain(m *testing.M) {
	if os.Getenv("RELMAN_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}
