package release

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
)

// A file's line in a manifest is
//
//	{"p":"css/app.css","s":1234,"h":"<64 hex digits>","m":"0644","t":"text/css","u":1700000000}
//
// with "t" and "u" left out when empty or 0. It is JSON for whoever looks at
// it, but has one spelling only, so that it is written and read by hand here:
// an order of magnitude faster than encoding/json, and a node reads the whole
// manifest before every fill.
const (
	modePlain = "0644"
	modeExec  = "0755"

	lineLeast = len(`{"p":"","s":0,"h":"","m":"0644"}`) + 2*len(Digest{})
	lineGuess = lineLeast + 64
)

var (
	newline = []byte{'\n'}
	errForm = errors.New("not in canonical form")
)

// appendTreeLine appends the line of a valid f, without its time.
func appendTreeLine(dst []byte, f File) []byte {
	dst = appendString(append(dst, `{"p":`...), f.Path)
	dst = strconv.AppendInt(append(dst, `,"s":`...), f.Size, 10)
	dst = hex.AppendEncode(append(dst, `,"h":"`...), f.Digest[:])
	mode := modePlain
	if f.Exec {
		mode = modeExec
	}
	dst = appendString(append(dst, `","m":`...), mode)
	if f.Type != "" {
		dst = appendString(append(dst, `,"t":`...), f.Type)
	}
	return append(dst, "}\n"...)
}

// appendTime puts the time into the line that dst ends with.
func appendTime(dst []byte, mtime int64) []byte {
	if mtime == 0 {
		return dst
	}
	dst = append(dst[:len(dst)-len("}\n")], `,"u":`...)
	return append(strconv.AppendInt(dst, mtime, 10), "}\n"...)
}

// appendString appends s as JSON. The path rules and isMediaType let through
// nothing that JSON has to escape but these two.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

func headerLine(h Header) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(h)
	return b.Bytes(), err
}

// parseHeader reads the header's line. It looks at the format first: what else
// a later format says need not make sense here.
func parseHeader(line []byte) (h Header, err error) {
	if err := json.Unmarshal(line, &h); err != nil {
		return h, manifestError(0, "%v", err)
	}
	if h.Format != manifestFormat {
		return h, manifestError(0, "format %d, this version reads %d", h.Format, manifestFormat)
	}
	again, err := headerLine(h)
	if err != nil || !bytes.Equal(line, bytes.TrimSuffix(again, newline)) {
		return h, manifestError(0, "%v", errForm)
	}
	return h, nil
}

// lineParser takes the lines of files apart, from left to right.
type lineParser struct {
	rest  []byte
	ok    bool
	types map[string]string // every media type once: a site has few
}

// parse reads one line. It takes more than the canonical form; the caller
// compares.
func (p *lineParser) parse(line []byte) (File, error) {
	var f File
	p.rest, p.ok = line, true
	p.expect(`{"p":`)
	f.Path = string(p.text())
	p.expect(`,"s":`)
	f.Size = p.number()
	p.expect(`,"h":`)
	sum := p.text()
	p.expect(`,"m":`)
	mode := p.text()
	f.Exec = string(mode) == modeExec
	if p.next(`,"t":`) {
		f.Type = p.mediaType()
	}
	if p.next(`,"u":`) {
		f.MTime = p.number()
	}
	p.expect(`}`)
	if !p.ok || len(p.rest) > 0 || len(sum) != 2*len(f.Digest) {
		return f, errForm
	}
	if _, err := hex.Decode(f.Digest[:], sum); err != nil {
		return f, errForm
	}
	return f, nil
}

// next takes want when it comes next.
func (p *lineParser) next(want string) bool {
	if len(p.rest) < len(want) || string(p.rest[:len(want)]) != want {
		return false
	}
	p.rest = p.rest[len(want):]
	return true
}

func (p *lineParser) expect(want string) { p.ok = p.next(want) && p.ok }

// number takes a number of up to 18 digits, which no int64 overflows.
func (p *lineParser) number() (n int64) {
	i := 0
	for ; i < len(p.rest) && i < 18 && p.rest[i] >= '0' && p.rest[i] <= '9'; i++ {
		n = 10*n + int64(p.rest[i]-'0')
	}
	p.rest, p.ok = p.rest[i:], p.ok && i > 0
	return n
}

// text takes a string.
func (p *lineParser) text() []byte {
	p.expect(`"`)
	end := bytes.IndexByte(p.rest, '"')
	if end < 0 {
		p.ok = false
		return nil
	}
	s := p.rest[:end]
	if bytes.IndexByte(s, '\\') >= 0 {
		return p.escaped()
	}
	p.rest = p.rest[end+1:]
	return s
}

// escaped takes the rest of a string with backslashes in it.
func (p *lineParser) escaped() (s []byte) {
	for i := 0; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			p.rest = p.rest[i+1:]
			return s
		case '\\':
			if i++; i == len(p.rest) {
				p.ok = false
				return nil
			}
		}
		s = append(s, p.rest[i])
	}
	p.ok = false
	return nil
}

func (p *lineParser) mediaType() string {
	b := p.text()
	t, ok := p.types[string(b)]
	if !ok {
		t = string(b)
		p.types[t] = t
	}
	return t
}
