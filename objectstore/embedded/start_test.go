//go:build !noembed

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"
)

// lines is a log that a test can read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startStore(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), os.Args[0], c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if !gone(s.cmd.Process.Pid) {
		t.Errorf("process %d is still there", s.cmd.Process.Pid)
	}
}

// gone tells whether a process is no more; one that nobody has waited for yet
// (a zombie) is no more.
func gone(pid int) bool {
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(state, []byte(") Z "))
}

func client(s *Server, secret string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + s.Addr()), Region: region, UsePathStyle: true, RetryMaxAttempts: 1,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		HTTPClient:                 &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "relman", SecretAccessKey: secret}, nil
		}),
	})
}

func write(t *testing.T, s *Server, key, body string) error {
	_, err := client(s, "relman-secret").PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("relman"), Key: &key, Body: strings.NewReader(body)})
	return err
}

func size(t *testing.T, s *Server, key, secret string) (int64, error) {
	out, err := client(s, secret).HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("relman"), Key: &key})
	if err != nil {
		return 0, err
	}
	return aws.ToInt64(out.ContentLength), nil
}

func TestStart_servesUntilItIsStopped(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := testConfig(t.TempDir())
	said := &lines{}
	c.Log = slog.New(slog.NewTextHandler(said, nil))
	for round := range 2 {
		s, err := Start(t.Context(), os.Args[0], c)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("s3://relman?endpoint=http://%s&region=us-east-1&path-style=true", s.Addr()); s.URL() != want {
			t.Errorf("URL %s, want %s", s.URL(), want)
		}
		if round == 0 {
			if err := write(t, s, object, "hello"); err != nil {
				t.Error(err)
			}
		}
		if n, err := size(t, s, object, "relman-secret"); n != 5 || err != nil {
			t.Errorf("round %d: %d bytes, %v", round, n, err)
		}
		if _, err := size(t, s, object, "wrong"); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("a wrong secret: %v", err)
		}
		stop(t, s)
		<-s.Done()
		if err := s.Wait(); err != nil {
			t.Error(err)
		}
		if _, err := size(t, s, object, "relman-secret"); err == nil {
			t.Error("it still serves after it was stopped")
		}
	}
	if said.String() != "" {
		t.Errorf("it says at level info and above:\n%s", said)
	}
}

func TestStart_catchesWhatTheServerPrints(t *testing.T) {
	c := testConfig(t.TempDir())
	said := &lines{}
	c.Log = slog.New(slog.NewTextHandler(said, nil))
	s := startStore(t, c)
	// Something is in the way of its temporary files: an internal error.
	if err := os.WriteFile(filepath.Join(c.Dir, "objects", "relman", ".sgwtmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(t, s, object, "hello"); err == nil {
		t.Error("the put has succeeded")
	}
	waitFor(t, "its complaint is in the log", func() bool { return strings.Contains(said.String(), "the S3 server says") })
}

func TestStart_takenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := testConfig(t.TempDir())
	c.Addr = l.Addr().String()
	if s := startStore(t, c); s.Addr() == c.Addr {
		t.Errorf("it listens on %s, which is taken", s.Addr())
	} else if err := write(t, s, object, "hello"); err != nil {
		t.Error(err)
	}
	c = testConfig(t.TempDir())
	c.Addr, c.Exact = l.Addr().String(), true
	if _, err := Start(t.Context(), os.Args[0], c); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("an exact address that is taken: %v", err)
	}
}

func TestServeAt_aPortThatIsTakenMeanwhile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Chdir(t.TempDir())
	c, err := testConfig(t.TempDir()).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	restore, err := capture(c.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	err = serveAt(t.Context(), c, l.Addr().String(), syncer{(*os.File).Sync}, func(string) { t.Error("ready") })
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}

// A client that keeps an unused connection does not hold the end up, and one
// whose write is under way gets its answer.
func TestStop_finishesWhatIsUnderWay(t *testing.T) {
	s, err := Start(t.Context(), os.Args[0], testConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	unused, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()
	signed, err := s3.NewPresignClient(client(s, "relman-secret")).PresignPutObject(t.Context(),
		&s3.PutObjectInput{Bucket: aws.String("relman"), Key: aws.String(object)})
	if err != nil {
		t.Fatal(err)
	}
	body, half := io.Pipe()
	written := make(chan error, 1)
	go func() { written <- send(signed.URL, body, 2<<20) }()
	if _, err := half.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	// Its temporary file is there: the server reads the body.
	waitFor(t, "the write is under way", func() bool { return openFiles(s.cmd.Process.Pid, ".sgwtmp") > 0 })
	start := time.Now()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop(t, s)
	}()
	waitFor(t, "it accepts nothing more", func() bool {
		c, err := net.Dial("tcp", s.Addr())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if _, err := half.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	half.Close()
	if err := <-written; err != nil {
		t.Errorf("the write that was under way: %v", err)
	}
	<-stopped
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("it took %s to stop", d)
	}
}

func send(url string, body *io.PipeReader, length int64) error {
	req, err := http.NewRequest(http.MethodPut, url, body)
	if err != nil {
		return err
	}
	req.ContentLength = length
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	body.CloseWithError(errors.Join(io.ErrClosedPipe, err))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// openFiles counts the files that a process has open below a directory of
// this name.
func openFiles(pid int, dir string) (n int) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.Contains(to, dir) {
			n++
		}
	}
	return n
}

func TestStart_badConfig(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Bucket = "Not_A_Bucket"
	if _, err := Start(t.Context(), os.Args[0], c); err == nil || !strings.Contains(err.Error(), "not a valid bucket name") {
		t.Errorf("got %v", err)
	}
	if _, err := Start(t.Context(), os.Args[0], Config{}); err == nil {
		t.Error("an empty config starts")
	}
}

func TestStart_oneServerPerDirectory(t *testing.T) {
	c := testConfig(t.TempDir())
	startStore(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if s, err := Start(ctx, os.Args[0], c); err == nil {
		stop(t, s)
		t.Error("two servers have one directory")
	}
}

func TestChild_endsWithItsParent(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			parent := exec.Command(os.Args[0], "parent", t.TempDir())
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			var addr string
			_, err = fmt.Fscan(out, &pid, &addr)
			if err := errors.Join(err, parent.Process.Signal(signal)); err != nil {
				t.Fatal(err)
			}
			_ = parent.Wait() // it was killed
			waitFor(t, "the child is gone", func() bool { return gone(pid) })
		})
	}
}

// The end of stdin is enough, where the kernel does not tell.
func TestChild_endsWithItsStdin(t *testing.T) {
	child := exec.Command(os.Args[0], "store", t.TempDir(), "--addr", "127.0.0.1:0", "--bucket", "relman", childFlag)
	child.Env = append(os.Environ(), accessKeyEnv+"=a", secretKeyEnv+"=b")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	if _, err := fmt.Fscan(out, &addr); err != nil {
		t.Error(err)
	}
	in.Close()
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on without its parent")
		_ = child.Process.Kill()
		t.Log(<-ended)
	}
}
