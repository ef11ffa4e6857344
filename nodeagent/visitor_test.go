package nodeagent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"time"

	"relman/release"
)

// visitor asks for pages all the time and hashes every body: it is the release
// that the answer names, to the byte, and epochs never go back.
type visitor struct {
	stop, ended chan struct{}
	errs        []error
	pages       int
	damaged     atomic.Bool // a file of what is shown is damaged

	avoids atomic.Value // a path that is not asked for, where somebody else is to find it damaged
}

func newVisitor(h http.Handler, s *shelf) *visitor {
	v := &visitor{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(v.ended)
		var epoch uint64
		names := []string{"index.html"}
		for len(v.errs) < 5 {
			select {
			case <-v.stop:
				return
			default:
			}
			w := httptest.NewRecorder()
			path, damaged := names[rand.N(len(names))], v.damaged.Load()
			if path == v.avoids.Load() {
				continue
			}
			h.ServeHTTP(w, httptest.NewRequest("GET", "/"+path, nil))
			known, ok := s.all.Load(release.ID(w.Header().Get("Relman-Release")))
			if !ok {
				time.Sleep(time.Millisecond) // nothing is shown yet
				continue
			}
			m := known.(*release.Manifest)
			e, err := strconv.ParseUint(w.Header().Get("Relman-Epoch"), 10, 64)
			if err != nil || e < epoch {
				v.errs = append(v.errs, fmt.Errorf("epoch %d after %d: %w", e, epoch, err))
			}
			epoch = e
			f, has := m.Lookup(path)
			if damaged || v.damaged.Load() {
				f.Digest, has = release.Sum(w.Body.Bytes()), w.Code == 200
			}
			if has != (w.Code == 200) || has && release.Sum(w.Body.Bytes()) != f.Digest {
				v.errs = append(v.errs, fmt.Errorf("%s of %s: %d, wrong body %.100q", path, m.ID(), w.Code, w.Body))
			}
			v.pages++
			names = names[:0]
			for _, f := range m.Files {
				names = append(names, f.Path)
			}
			time.Sleep(3 * time.Millisecond)
		}
	}()
	return v
}

func (v *visitor) leave() error {
	close(v.stop)
	<-v.ended
	return errors.Join(v.errs...)
}
