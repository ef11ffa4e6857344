// Command model explores relman's protocol state by state: small clusters with
// all that can happen in them, in every order. The transactions, with their
// guards, are those that package cluster makes; etcd, nodes and the object store are the
// model's own. Then it deletes each guard, and lets each actor do wrong, and says
// whether an invariant breaks: what can be deleted unnoticed is not tested.
package main

import (
	"flag"
	"os"
)

func main() {
	s := size{limit: 400_000}
	flag.BoolVar(&s.large, "large", false, "explore the larger worlds, too, and further")
	flag.StringVar(&s.only, "world", "", "explore only worlds whose name contains this")
	verbose := flag.Bool("v", false, "say how each mutation was found")
	flag.Parse()
	if s.large {
		s.limit = 1_000_000
	}
	if !report(os.Stdout, s, *verbose) {
		os.Exit(1)
	}
}
