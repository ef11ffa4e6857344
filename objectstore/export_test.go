package objectstore

import "time"

// SetIdle shortens what a store may take, until undo is called.
func SetIdle(d time.Duration) (undo func()) {
	old := mostIdle
	mostIdle = d
	return func() { mostIdle = old }
}
