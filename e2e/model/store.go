package main

import "relman/cluster"

// sweep is the object store and who sweeps it.
type sweep struct{}

func (x *explorer) wrongStore(*verdicts, *state, *cluster.View) {}
