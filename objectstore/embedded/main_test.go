//go:build !noembed

package embedded

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// The test binary is also the program that Start starts, and a parent of it
// that a test can kill.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "store":
		exit(storeCommand(os.Args[2], os.Args[3:]))
	case len(os.Args) > 2 && os.Args[1] == "parent":
		exit(parentCommand(os.Args[2]))
	}
	// With the race detector every process sleeps a second before it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		exit(err)
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func storeCommand(dir string, args []string) error {
	c := Config{Dir: dir}
	f := flag.NewFlagSet("store", flag.ContinueOnError)
	f.StringVar(&c.Addr, "addr", "", "")
	f.StringVar(&c.Bucket, "bucket", "", "")
	f.BoolVar(&c.Exact, "exact", false, "")
	child := f.Bool("child", false, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if !*child {
		return fmt.Errorf("not a child: %q", args)
	}
	return ServeChild(ctx, c)
}

// parentCommand starts a store, says its process and address, and stays.
func parentCommand(dir string) error {
	s, err := Start(context.Background(), os.Args[0], testConfig(dir))
	if err != nil {
		return err
	}
	fmt.Println(s.cmd.Process.Pid, s.Addr())
	return s.Wait()
}

func testConfig(dir string) Config {
	return Config{Dir: dir, Addr: "127.0.0.1:0", AccessKey: "relman", SecretKey: "relman-secret", Bucket: "relman"}
}
