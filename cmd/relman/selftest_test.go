package main

import (
	"fmt"
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
	caches, err := os.MkdirTemp("", "relman-test-cache-")
	if err == nil {
		err = os.Setenv("XDG_CACHE_HOME", caches)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(caches); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
