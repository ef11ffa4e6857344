//go:build race

package manager

// The race detector takes five times as long; nothing in a schedule is
// concurrent.
const simSchedules = 4000
