// Command demo shows relman's main job on the embedded default: four nodes,
// two versions of a small site, one transaction that flips them together, and
// a rollback. It starts everything itself and leaves nothing behind.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	relman := flag.String("relman", "bin/relman", "the relman binary")
	etcdctl := flag.String("etcdctl", "bin/etcdctl", "the etcdctl binary")
	sample := flag.String("sample", "e2e/sample", "the folder with the versions v1 and v2")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{relman: *relman, etcdctl: *etcdctl, sample: *sample}
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// cluster is what `relman dev` writes to its ready file.
type cluster struct {
	Etcd, Store, Front, Manager string
	Nodes                       []string
}

type demo struct {
	relman, etcdctl, sample string
	cache                   string // for publish
	cluster                 cluster
}

// run is the demo from beginning to end; what it started and made is gone when
// it returns.
func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "relman-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d.cache = filepath.Join(dir, "cache")

	say("Start etcd, an S3 server, a manager and four nodes, all embedded:")
	stop, err := d.start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return d.story(ctx)
}

func (d *demo) story(ctx context.Context) error {
	say("Publish the first version:")
	if err := d.command(ctx, d.relman, "publish", filepath.Join(d.sample, "v1"), "-m", "first version"); err != nil {
		return err
	}
	first, err := d.nodes(ctx)
	if err != nil {
		return err
	}
	say("Publish the second version. The nodes fill their back buffers, then one transaction flips them all:")
	if err := d.command(ctx, d.relman, "publish", filepath.Join(d.sample, "v2"), "-m", "summer timetable"); err != nil {
		return err
	}
	second, err := d.nodes(ctx)
	if err != nil {
		return err
	}
	say("The one key that is the truth, as etcdctl prints it:")
	if err := d.command(ctx, d.etcdctl, "get", "/relman/v1/sites/www/active"); err != nil {
		return err
	}
	say("Roll back. Every node still holds the first version, so this is one commit:")
	if err := d.command(ctx, d.relman, "rollback", "-m", "the late boat is cancelled"); err != nil {
		return err
	}
	third, err := d.nodes(ctx)
	if err != nil {
		return err
	}
	if first == second || first != third {
		return fmt.Errorf("the nodes showed %s, then %s, then %s: a flip or the rollback did not happen", first, second, third)
	}
	say("What happened:")
	return d.command(ctx, d.relman, "history")
}

// start runs `relman dev` and waits until it says that all is up. The function
// that it returns ends it and everything that it started.
func (d *demo) start(ctx context.Context, dir string) (stop func() error, err error) {
	ready := filepath.Join(dir, "ready.json")
	cmd := exec.Command(d.relman, "dev", "--state", filepath.Join(dir, "state"), "--ready-file", ready)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	fmt.Println("  $", strings.Join(cmd.Args, " "))
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("relman dev: %w\n%s", err, log.String())
			}
			return nil
		case <-time.After(20 * time.Second):
			return errors.Join(errors.New("relman dev did not end within 20 s"), cmd.Process.Kill())
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("relman dev ended: %w\n%s", err, log.String())
		case <-deadline:
			return nil, errors.Join(errors.New("relman dev was not ready within a minute"), stop())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), stop())
		case <-tick.C:
		}
		b, err := os.ReadFile(ready)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		if err := json.Unmarshal(b, &d.cluster); err != nil {
			return nil, errors.Join(fmt.Errorf("ready file: %w", err), stop())
		}
		fmt.Printf("    etcd %s, nodes %s\n", d.cluster.Etcd, strings.Join(d.cluster.Nodes, " "))
		return stop, nil
	}
}

// command runs a program against the demo's cluster and shows what it prints.
func (d *demo) command(ctx context.Context, program string, args ...string) error {
	shown := "  $ " + filepath.Base(program)
	for _, a := range args {
		if strings.ContainsAny(a, " *") {
			a = strconv.Quote(a)
		}
		shown += " " + a
	}
	fmt.Println(shown)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+d.cluster.Etcd, "XDG_CACHE_HOME="+d.cache)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		fmt.Print("    ", line)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}

// nodes asks every node which release it shows, and that all say the same.
func (d *demo) nodes(ctx context.Context) (string, error) {
	shown := ""
	for i, url := range d.cluster.Nodes {
		id, title, err := page(ctx, url)
		if err != nil {
			return "", err
		}
		fmt.Printf("    node %d shows %s  %q\n", i+1, id, title)
		if i > 0 && id != shown {
			return "", fmt.Errorf("%s shows %s, the nodes before it %s", url, id, shown)
		}
		shown = id
	}
	return shown, nil
}

// page gets a node's start page: the release that it came from, and its heading.
func page(ctx context.Context, url string) (id, heading string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("%s answered %s", url, resp.Status)
	}
	_, rest, _ := strings.Cut(string(body), "<h1>")
	heading, _, _ = strings.Cut(rest, "</h1>")
	return resp.Header.Get("Relman-Release"), heading, nil
}

func say(s string) { fmt.Printf("\n%s\n", s) }
