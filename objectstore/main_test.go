package objectstore_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"relman/objectstore"
	"relman/objectstore/embedded"
	"relman/objectstore/storetest"
)

// The test binary is also the S3 server that the tests talk to.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "store" {
		if err := serve(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serve(dir string, args []string) error {
	c := embedded.Config{Dir: dir}
	f := flag.NewFlagSet("store", flag.ContinueOnError)
	f.StringVar(&c.Addr, "addr", "", "")
	f.StringVar(&c.Bucket, "bucket", "", "")
	f.BoolVar(&c.Exact, "exact", false, "")
	f.Bool("child", false, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	return embedded.ServeChild(context.Background(), c)
}

var testCredentials = objectstore.Credentials{AccessKey: "relman", SecretKey: "relman-secret"} //nolint:gochecknoglobals // a constant

// startS3 starts a server until the test ends.
func startS3(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), os.Args[0], embedded.Config{
		Dir: dir, Addr: "127.0.0.1:0", Bucket: "relman",
		AccessKey: testCredentials.AccessKey, SecretKey: testCredentials.SecretKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openS3 is a client of a server, below a prefix of its own.
func openS3(t testing.TB, s *embedded.Server, prefix string) *objectstore.S3 {
	t.Helper()
	u, err := objectstore.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Prefix = prefix
	st, err := objectstore.OpenS3(u, testCredentials)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store { return objectstore.NewMemory() })
}

func TestRetry_isAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store { return objectstore.Retry(objectstore.NewMemory(), nil) })
}

func TestS3(t *testing.T) {
	s := startS3(t, t.TempDir())
	var n atomic.Int32
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		return openS3(t, s, fmt.Sprintf("store-%d/", n.Add(1)))
	})
}
