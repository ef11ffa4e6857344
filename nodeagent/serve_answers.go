package nodeagent

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"relman/release"
)

// Most requests are for the whole of a file of what is shown, by visitors who are
// not pinned to anything else: the answer is the same for all of them. It is kept
// for the next one, head and content, if the content is small; large ones are
// sent from the disk without a copy anyway. The content is hashed when it is read
// into memory. That the file is still the one that was read is looked at for each
// request, as it is for those that open it.
const (
	mostSmall   = 64 << 10 // bytes of a content that is kept
	mostKept    = 32 << 20 // bytes of all that a node keeps
	answerBytes = 1 << 10  // what an answer takes beside its heads and content, roughly
)

// answers are those that were given while a node held one set of releases. They go
// with it: nothing that decides such an answer changes meanwhile, but for what is
// looked at for each request (see Front.quick).
type answers struct {
	mu    sync.RWMutex
	paths map[string]*answered // guarded by mu
	bytes int64                // guarded by mu
}

// answered is a path with its answers, by coding.
type answered struct {
	file release.File
	as   [codingCount + 1]atomic.Pointer[answer]
}

// answer is one whole answer. It is never changed once it is kept.
type answer struct {
	choice variant // what is sent, or noVariant
	head   []byte  // of a 200, without the date and what follows that
	same   []byte  // of a 304, for a client that has it
	etag   string
	body   []byte

	// Which file the body was read from, below an open directory; negative for a
	// variant that the node made, which is not looked at again.
	dir  int
	name string
	was  inode
}

// find is what is known of a path, nil for nothing.
func (a *answers) find(path []byte) *answered {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.paths[string(path)]
}

// keep keeps an answer, and gives up others, whichever, where there is no room.
func (a *answers) keep(path string, f release.File, one *answer, most int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paths == nil {
		a.paths = map[string]*answered{}
	}
	known := a.paths[path]
	if known == nil {
		known = &answered{file: f}
		a.paths[path] = known
	}
	a.bytes += one.size() - known.as[one.choice.coding].Swap(one).size()
	for other, known := range a.paths {
		if a.bytes <= most {
			return
		}
		for i := range known.as {
			a.bytes -= known.as[i].Swap(nil).size()
		}
		delete(a.paths, other)
	}
}

// size is what an answer takes; nil takes nothing.
func (a *answer) size() int64 {
	if a == nil {
		return 0
	}
	return int64(answerBytes + len(a.head) + len(a.same) + len(a.body))
}

// quick finds the answer to a plain request, nil where there is none. Beside path
// and coding these decide: the visitor's pin, which has to be none, or that of
// what is shown; and whether the node knows that it shows what is active, and is
// not cut off.
func (f *Front) quick(q *quickRequest, accept string, log *slog.Logger) *answer {
	h := f.holdings.Load()
	known := h.answers.find(q.path)
	if known == nil || bytes.Contains(q.query, []byte(previewQuery)) {
		return nil
	}
	if bytes.Contains(q.cookie, []byte(pinCookie+"=")) {
		if pin, ok := pinIn(string(q.cookie)); ok && pin != "" && pin != h.pin {
			return nil
		}
	}
	rel := h.shown.release
	if f.unconfirmed.Load() || f.gate != nil && f.gate.fenced() || !rel.acquire() {
		return nil
	}
	defer f.release(rel, log)
	if a := known.pick(rel, accept); a != nil && a.current() {
		return a
	}
	return nil
}

// pick is the answer for a client that takes some codings; nil when there is
// none yet.
func (k *answered) pick(r *Release, accept string) *answer {
	choice := noVariant
	if r.variants != nil {
		if v, _, ok := r.variants.pick(r, k.file, accept); ok {
			choice = v
		}
	}
	a := k.as[choice.coding].Load()
	if a == nil || a.choice != choice {
		return nil
	}
	return a
}

// current reports whether the file that the body is of is as it was: whatever is
// done to it changes its last time. The release that has it is acquired.
func (a *answer) current() bool {
	if a.dir < 0 {
		return true
	}
	var st unix.Stat_t
	return unix.Fstatat(a.dir, a.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		a.was == inode{st.Dev, st.Ino, syscall.Timespec(st.Ctim)}
}

// read begins an answer that can be kept: it reads the body out of the open file
// that is sent for f. It is nil for what is large. An error says that the file is
// not what it was when it was verified or made.
func (r *Release) read(f release.File, choice variant, from *os.File) (*answer, error) {
	a := &answer{choice: choice, dir: r.dir, name: f.Path}
	size, sum := f.Size, f.Digest[:]
	switch {
	case choice == noVariant:
	case choice.made.size > 0:
		a.dir, a.name = -1, variantName(f.Digest, choice.coding, choice.made)
		size, sum = choice.made.size, choice.made.sum[:]
	default:
		a.name, size, sum = choice.file.Path, choice.file.Size, choice.file.Digest[:]
	}
	if size > mostSmall {
		return nil, nil
	}
	info, err := from.Stat()
	if err != nil {
		return nil, &fileError{a.name, err}
	}
	a.was, _ = inodeOf(info)
	a.body = make([]byte, size)
	if n, err := from.ReadAt(a.body, 0); err != nil && (!errors.Is(err, io.EOF) || int64(n) < size) {
		return nil, &fileError{a.name, err}
	}
	if is := sha256.Sum256(a.body); !bytes.Equal(is[:len(sum)], sum) {
		return nil, &fileError{a.name, &os.PathError{Op: "serve", Path: a.name, Err: errNotAsVerified}}
	}
	return a, nil
}

// heads completes an answer, with what http.ServeContent adds to a head and as
// net/http writes it.
func (a *answer) heads(head http.Header, f release.File) {
	head = maps.Clone(head)
	lines := func(status int) []byte {
		var b bytes.Buffer
		fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
		_ = head.Write(&b) // a buffer takes everything
		return b.Bytes()
	}
	a.etag = head.Get("Etag")
	added := map[string]string{
		"Last-Modified": time.Unix(f.MTime, 0).UTC().Format(http.TimeFormat),
		"Accept-Ranges": "bytes", "Content-Length": strconv.Itoa(len(a.body)),
	}
	for name, value := range added {
		head[name] = []string{value}
	}
	a.head = lines(http.StatusOK)
	for name := range added {
		delete(head, name)
	}
	delete(head, "Content-Type")
	delete(head, "Content-Encoding")
	a.same = lines(http.StatusNotModified)
}
