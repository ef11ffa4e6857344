// Package e2e tests whole clusters: in one process (relman dev), as real
// processes that are really killed, and in containers. It has no code that
// others use.
package e2e
