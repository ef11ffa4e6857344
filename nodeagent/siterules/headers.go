package siterules

import (
	"net/http"
	"slices"
	"strings"
)

// Limits of _headers.
const (
	// MaxBlocks bounds the blocks. Cloudflare takes 100, Netlify names no
	// limit, and builds that write one block for each page have several
	// hundred. All blocks with * or :placeholders are looked at for each
	// answer: for 1,000 of them that takes 10 to 60 microseconds.
	MaxBlocks = 1000

	// MaxHeaders bounds the lines of one block: more would not pass through
	// the proxies and browsers that an answer meets.
	MaxHeaders = 100

	maxHeaderLine = 2000 // bytes; Cloudflare's limit
)

// Headers are the rules of a _headers file.
type Headers struct {
	blocks  []block
	static  map[string]int // path -> the first block for exactly this path
	dynamic []int          // the others, in order
	names   int            // how many different names are set
}

// block is a path and what is done to answers there.
type block struct {
	pattern
	path   string // as it was written
	lines  []string
	line   int
	next   int // the next block for the same path, -1 for none
	detach []string
	set    []field
}

// field is a header. value is shared by all answers.
type field struct {
	name  string // in canonical form
	id    int    // its number among the names that are set
	value []string
}

// Len is the number of blocks.
func (h *Headers) Len() int {
	if h == nil {
		return 0
	}
	return len(h.blocks)
}

// String is a _headers file with the same rules.
func (h *Headers) String() string {
	var b strings.Builder
	if h == nil {
		return ""
	}
	for i := range h.blocks {
		bl := &h.blocks[i]
		b.WriteString(bl.path + "\n")
		for _, line := range bl.lines {
			b.WriteString("  " + line + "\n")
		}
	}
	return b.String()
}

// Apply changes the headers of an answer to a request for path, decoded, as
// the blocks for it say, in the order of the file. What a block sets takes the
// place of what was there before all blocks; what several set is joined. The
// caller must not change the values in place: answers share them.
//
// The path is the one asked for, clean or not, there or not: headers that
// protect have to be on every answer.
func (h *Headers) Apply(path string, to http.Header) {
	if h == nil || len(h.blocks) == 0 {
		return
	}
	at, ok := h.static[unslash(path)]
	if !ok {
		at = -1
	}
	var few [4]uint64
	set := few[:] // the names that a block has set, as bits
	if h.names > 64*len(few) {
		set = make([]uint64, h.names/64+1)
	}
	var got captured
	for d := 0; ; {
		i := at
		if d < len(h.dynamic) && (at < 0 || h.dynamic[d] < at) {
			i = h.dynamic[d]
			d++
			if !h.blocks[i].match(path, &got) {
				continue
			}
		} else if at < 0 {
			return
		} else {
			at = h.blocks[at].next
		}
		h.blocks[i].apply(to, set)
	}
}

func (b *block) apply(to http.Header, set []uint64) {
	for _, name := range b.detach {
		if kept := servers(to[name], name); kept != nil {
			to[name] = kept
			continue
		}
		delete(to, name)
	}
	for i := range b.set {
		f := &b.set[i]
		bit := uint64(1) << (f.id & 63)
		first := set[f.id>>6]&bit == 0
		set[f.id>>6] |= bit
		to[f.name] = f.merge(to[f.name], first)
	}
}

// servers are those values of a header that the server has set and a site cannot
// take away: the cookie that pins the visitor.
func servers(values []string, name string) (kept []string) {
	if name != "Set-Cookie" {
		return nil
	}
	for _, v := range values {
		if cookie, _, _ := strings.Cut(v, "="); cookie == releaseCookie {
			kept = append(kept, v)
		}
	}
	return kept
}

// merge is the value of a header that had another one, which came from no
// block if this is the first.
func (f *field) merge(old []string, first bool) []string {
	switch f.name {
	case "Content-Type": // it has one value; the last block is the one meant
		return f.value
	case "Vary": // caches would mix up answers without what the server says
		first = false
	case "Set-Cookie": // nor is the visitor's pin the site's to drop
		if first {
			old = servers(old, f.name)
		}
		first = false
	}
	switch {
	case first || len(old) == 0:
		return f.value
	case f.name == "Set-Cookie": // the one header that cannot be joined; both hosts break it
		return slices.Concat(old, f.value)
	}
	return []string{strings.Join(old, ", ") + ", " + f.value[0]}
}
