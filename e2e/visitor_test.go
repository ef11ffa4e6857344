package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// visitor asks random nodes for random pages all the time and hashes every
// body that it gets: a complete answer has to be a file of a build that was
// published, whole, under the path that was asked for.
type visitor struct {
	mu      sync.Mutex
	known   map[string]map[[32]byte]bool // by path: the contents that are right
	bodies  int                          // hashed
	refused int                          // no connection, or 503: a node that is down or has nothing to show
	wrong   []string                     // bodies that are no build's

	stop chan struct{}
	done sync.WaitGroup
}

// newVisitor knows some builds.
func newVisitor(t testing.TB, builds ...string) *visitor {
	v := &visitor{known: map[string]map[[32]byte]bool{}, stop: make(chan struct{})}
	for _, b := range builds {
		for _, f := range listFiles(t, b) {
			content, err := os.ReadFile(filepath.Join(b, f))
			if err != nil {
				t.Fatal(err)
			}
			if v.known[f] == nil {
				v.known[f] = map[[32]byte]bool{}
			}
			v.known[f][sha256.Sum256(content)] = true
		}
	}
	return v
}

// visit starts as many loops as asked for; end stops them.
func (v *visitor) visit(loops int, urls []string) {
	var paths []string
	for p := range v.known {
		paths = append(paths, p)
	}
	for range loops {
		v.done.Go(func() {
			for {
				select {
				case <-v.stop:
					return
				default:
					v.one(urls[rand.IntN(len(urls))], paths[rand.IntN(len(paths))])
				}
			}
		})
	}
}

func (v *visitor) end() {
	close(v.stop)
	v.done.Wait()
}

// one asks for one file and judges the answer.
func (v *visitor) one(node, path string) {
	resp, err := client.Get(node + "/" + path)
	if err != nil {
		v.count(func() { v.refused++ })
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil || resp.StatusCode == http.StatusServiceUnavailable:
		v.count(func() { v.refused++ }) // cut off in the middle: the client knows that it is not whole
	case resp.StatusCode == http.StatusNotFound:
		v.count(func() { v.bodies++ }) // a path that only the other build has
	case resp.StatusCode != http.StatusOK:
		v.count(func() { v.wrong = append(v.wrong, fmt.Sprintf("%s/%s: %s", node, path, resp.Status)) })
	default:
		sum := sha256.Sum256(body)
		v.count(func() {
			v.bodies++
			if !v.known[path][sum] {
				v.wrong = append(v.wrong, fmt.Sprintf("%s/%s: %d bytes that no build has", node, path, len(body)))
			}
		})
	}
}

func (v *visitor) count(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}
