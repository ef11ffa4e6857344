package nodeagent

import (
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"relman/release"
)

// content opens what answers a request for a file, and says in the headers
// what it is: the file, or a variant of it. Ranges are of the file itself: what
// a client has of it fits together, whichever node had which variant. With keep
// the answer is begun that can be kept; nil where it cannot.
func (r *Release) content(w http.ResponseWriter, req *http.Request, f release.File, keep bool) (http.ResponseWriter, *os.File, *answer, error) {
	h := w.Header()
	etag := hex.EncodeToString(f.Digest[:])
	if r.variants != nil {
		choice, vary, ok := r.variants.pick(r, f, acceptEncoding(req.Header))
		if vary {
			h["Vary"] = append(slices.Clip(h["Vary"]), "Accept-Encoding") // the rest is shared
		}
		if ok && req.Header["Range"] == nil {
			if file, a, err := r.openVariant(f, choice, keep); err == nil {
				h["Content-Encoding"] = []string{choice.coding.String()}
				h["Etag"] = []string{`"` + etag + "-" + choice.coding.String() + `"`}
				return &encoded{ResponseWriter: w, size: choice.size()}, file, a, nil
			}
		}
	}
	file, a, err := r.openFile(f, keep)
	if err == nil {
		h["Etag"] = []string{`"` + etag + `"`}
	}
	return w, file, a, err
}

func (r *Release) openVariant(f release.File, choice variant, keep bool) (*os.File, *answer, error) {
	file, err := r.variants.open(r, f, choice)
	if err != nil || !keep {
		return file, nil, err
	}
	a, err := r.read(f, choice, file)
	if err != nil {
		r.variants.spoiled(r, f, choice, err)
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, a, nil
}

func (r *Release) openFile(f release.File, keep bool) (*os.File, *answer, error) {
	file, err := r.open(f)
	if err != nil || !keep {
		return file, nil, err
	}
	a, err := r.read(f, noVariant, file)
	if err != nil {
		_ = file.Close() // only read
		return nil, nil, err
	}
	return file, a, nil
}

func (c variant) size() int64 {
	if c.made.size > 0 {
		return c.made.size
	}
	return c.file.Size
}

// acceptEncoding is what a client takes; several fields are one list.
func acceptEncoding(h http.Header) string {
	switch fields := h["Accept-Encoding"]; len(fields) {
	case 0:
		return ""
	case 1:
		return fields[0]
	default:
		return strings.Join(fields, ",")
	}
}

// encoded says how long a variant is: http.ServeContent does not where there
// is a Content-Encoding, and what has no length goes out in chunks, through the
// process instead of from file to socket. Other answers have no such body.
type encoded struct {
	http.ResponseWriter
	size int64
}

// WriteHeader is http.ResponseWriter.
func (e *encoded) WriteHeader(code int) {
	if code == http.StatusOK {
		e.Header()["Content-Length"] = []string{strconv.FormatInt(e.size, 10)}
	} else {
		delete(e.Header(), "Content-Encoding")
	}
	e.ResponseWriter.WriteHeader(code)
}

// ReadFrom hands the file on as it comes.
func (e *encoded) ReadFrom(r io.Reader) (int64, error) { return io.Copy(e.ResponseWriter, r) }

// Unwrap lets http.ResponseController through.
func (e *encoded) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// besides are the files of a release that have a variant beside them, by its
// name. They are looked for when the first file is asked for: opening a release
// looks at none.
type besides struct {
	once sync.Once
	of   map[string]codingSet
}

// beside says which variants of a file the build has, by their names.
func (r *Release) beside(path string) codingSet {
	r.besides.once.Do(func() {
		for _, f := range r.manifest.Files {
			for c, suffix := range codingSuffixes {
				name, ok := strings.CutSuffix(f.Path, suffix)
				if !ok {
					continue
				}
				if of, found := r.manifest.Lookup(name); found && mayBe(f, of) {
					if r.besides.of == nil {
						r.besides.of = map[string]codingSet{}
					}
					r.besides.of[name] = r.besides.of[name].with(coding(c))
				}
			}
		}
	})
	return r.besides.of[path]
}

// The files that have variants. Those below the least size fit into a packet
// or two as they are; those above the most would keep the node busy for long.
const (
	leastSource = 1 << 10
	mostSource  = 64 << 20
)

// mayBe reports whether a file can be a variant of another one that is of use.
func mayBe(f, of release.File) bool { return of.Size <= mostSource && 0 < f.Size && f.Size < of.Size }

// compressible reports whether the node makes variants of a file.
func compressible(f release.File) bool {
	if f.Size < leastSource || f.Size > mostSource {
		return false
	}
	kind := f.Type
	if kind == "" {
		kind = mediaType(f.Path)
	}
	kind, _, _ = strings.Cut(kind, ";")
	switch {
	case strings.HasPrefix(kind, "text/"), strings.HasSuffix(kind, "+json"), strings.HasSuffix(kind, "+xml"):
		return true
	}
	switch kind {
	case "application/javascript", "application/json", "application/xml", "application/yaml", "application/wasm",
		"application/x-javascript", "application/sql", "application/rtf", "application/vnd.ms-fontobject",
		"font/ttf", "font/otf", "image/bmp", "image/x-icon":
		return true
	}
	return false
}
