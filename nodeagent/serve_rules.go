package nodeagent

import (
	"fmt"
	"io"
	"sync"

	"relman/cluster"
	"relman/nodeagent/siterules"
)

// rules are what a release says of its addresses and headers. They are read when
// the first visitor comes: they are files of the release like others, and one that
// cannot be read is a release that cannot be served.
type rules struct {
	mu        sync.Mutex
	read      bool // guarded by mu
	redirects *siterules.Redirects
	headers   *siterules.Headers
	problems  siterules.Problems
}

// siteRules are the release's own. What is wrong in them was told when it was
// published, and is left out here.
func (r *Release) siteRules() (*siterules.Redirects, *siterules.Headers, error) {
	if r.ruled.Load() {
		return r.rules.redirects, r.rules.headers, nil
	}
	r.rules.mu.Lock()
	defer r.rules.mu.Unlock()
	if !r.rules.read {
		redirects, err := r.control(siterules.RedirectsFile)
		if err != nil {
			return nil, nil, err
		}
		headers, err := r.control(siterules.HeadersFile)
		if err != nil {
			return nil, nil, err
		}
		r.rules.redirects, r.rules.problems = siterules.ParseRedirects(redirects)
		var more siterules.Problems
		r.rules.headers, more = siterules.ParseHeaders(headers)
		r.rules.problems, r.rules.read = append(r.rules.problems, more...), true
		r.ruled.Store(true)
	}
	return r.rules.redirects, r.rules.headers, nil
}

// control reads one of the files that say how the release is shown, nil for none.
func (r *Release) control(name string) ([]byte, error) {
	f, ok := r.files.Lookup(name)
	if !ok {
		return nil, nil
	}
	file, err := r.open(f)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read
	raw, err := io.ReadAll(io.LimitReader(file, f.Size))
	if err != nil {
		return nil, &fileError{name, fmt.Errorf("read %s: %w", name, err)}
	}
	return raw, nil
}

// policyOf is the part of how a site is served that says which addresses its
// pages have.
func policyOf(s cluster.Serving) siterules.Policy {
	return siterules.Policy{CleanURLs: s.CleanURLs, TrailingSlash: siterules.TrailingSlash(s.Slash), SPA: s.SPA}
}

// CheckRules says what is wrong with the _redirects and _headers of a build, nil
// for nothing. read is nil for a file that is not there.
func CheckRules(s cluster.Serving, has func(path string) bool, read func(name string) ([]byte, error)) error {
	raw, err := read(siterules.RedirectsFile)
	if err != nil {
		return err
	}
	redirects, problems := siterules.ParseRedirects(raw)
	if raw, err = read(siterules.HeadersFile); err != nil {
		return err
	}
	_, more := siterules.ParseHeaders(raw)
	problems = append(problems, more...)
	problems = append(problems, siterules.Site{Redirects: redirects, Policy: policyOf(s)}.Check(has)...)
	return problems.Err()
}
