// Command sitecheck unpacks real builds and compares them with what nodes hold
// and serve. It is a program of its own because it touches every byte of every
// node: under the race detector of the tests that alone took minutes.
package main

import (
	"flag"
	"fmt"
	"os"
)

const usage = `usage: sitecheck unpack ARCHIVE.tar.zst DIR
       sitecheck compare [-host HOST] BUILD TARGET...

A TARGET is a directory or the URL of a node.`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sitecheck:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "unpack":
		return unpack(args[1], args[2])
	case len(args) > 0 && args[0] == "compare":
		return runCompare(args[1:])
	}
	return fmt.Errorf("%s", usage)
}

func runCompare(args []string) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	host := flags.String("host", "", "the Host of the requests (default: that of the URL)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 2 {
		return fmt.Errorf("%s", usage)
	}
	n, err := compare(flags.Arg(0), *host, flags.Args()[1:])
	if err != nil {
		return err
	}
	fmt.Printf("%d files of %s are equal in %d places\n", n, flags.Arg(0), flags.NArg()-1)
	return nil
}
