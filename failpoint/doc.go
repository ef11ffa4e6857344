// Package failpoint names the places at which a test kills, stalls or fails
// the program. In an ordinary build every point is an empty function; only
// binaries built with the tag "failpoints" look at RELMAN_FAILPOINTS, and at
// RELMAN_CLOCK_OFFSET.
package failpoint
