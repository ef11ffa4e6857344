//go:build !failpoints

package failpoint

import "time"

// Point does nothing.
func Point(string) error { return nil }

// Now is time.Now.
func Now() time.Time { return time.Now() }
