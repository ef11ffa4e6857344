//go:build !race

package manager

const simSchedules = 20000
