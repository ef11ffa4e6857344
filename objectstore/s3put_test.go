package objectstore_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"relman/objectstore"
)

// TestS3_Put_taken: a store that takes nothing any more is given up, with what
// it was given.
func TestS3_Put_taken(t *testing.T) {
	defer objectstore.SetIdle(200 * time.Millisecond)()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for { // it accepts and never reads
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	u, err := objectstore.ParseURL("s3://relman?endpoint=http://" + l.Addr().String() + "&path-style=true")
	if err != nil {
		t.Fatal(err)
	}
	s, err := objectstore.OpenS3(u, testCredentials)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Put(t.Context(), "packs/x", bytes.Repeat([]byte("x"), 32<<20), true)
	if !errors.Is(err, objectstore.ErrUnavailable) || !strings.Contains(err.Error(), "took no more") || !strings.Contains(err.Error(), "packs/x") {
		t.Errorf("%v", err)
	}
}

// TestUpload_distrust: packs that are damaged in the store are replaced by a
// publisher that does not trust it, and by no other.
func TestUpload_distrust(t *testing.T) {
	dir := t.TempDir()
	store := openS3(t, startS3(t, dir), "")
	build := t.TempDir()
	if err := os.WriteFile(filepath.Join(build, "a.bin"), bytes.Repeat([]byte("some content "), 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	publish := func(distrust bool) objectstore.UploadStats {
		t.Helper()
		b, err := objectstore.Scan(t.Context(), build, objectstore.ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := (&objectstore.Publisher{Store: store, Site: "www", Distrust: distrust}).Upload(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		return u.Stats
	}
	first := publish(false)
	var pack string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(p, ".pack") {
			pack = p
		}
		return err
	})
	whole, readErr := os.ReadFile(pack)
	if err := errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	if sent := publish(true).UploadedBytes; sent != 0 {
		t.Errorf("a whole pack was sent again: %d bytes", sent)
	}
	for name, damaged := range map[string][]byte{"another byte": append([]byte("?"), whole[1:]...), "cut off": whole[:len(whole)/2]} {
		if err := os.WriteFile(pack, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if sent := publish(true).UploadedBytes; sent != first.UploadedBytes {
			t.Errorf("%s: %d bytes sent, want %d", name, sent, first.UploadedBytes)
		}
		if now, err := os.ReadFile(pack); err != nil || !bytes.Equal(now, whole) {
			t.Errorf("%s: still damaged, %v", name, err)
		}
	}
}

// TestS3_Put_hungUp: a store that has the object, and hangs up on who sends it again,
// has it.
func TestS3_Put_hungUp(t *testing.T) {
	for _, c := range []struct {
		there bool
		want  error
	}{{true, objectstore.ErrExists}, {false, objectstore.ErrUnavailable}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut:
				if r.Header.Get("If-None-Match") != "*" {
					t.Error("put without a condition")
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close() // with bytes unread: the other side gets a reset
			case c.there:
				w.Header().Set("ETag", `"x"`)
				w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
				w.Header().Set("Content-Length", "4")
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}))
		defer srv.Close()
		u, err := objectstore.ParseURL("s3://relman?endpoint=" + srv.URL + "&path-style=true")
		if err != nil {
			t.Fatal(err)
		}
		s, err := objectstore.OpenS3(u, testCredentials)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Put(t.Context(), "packs/x", bytes.Repeat([]byte("x"), 4<<20), true); !errors.Is(err, c.want) {
			t.Errorf("there %t: %v", c.there, err)
		}
	}
}
