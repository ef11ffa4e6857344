package nodeagent

import "bytes"

// quickRequest is what decides about an answer in the head of a request. Its
// parts are only good until the buffer is used again.
type quickRequest struct {
	size    int  // of the head, with the empty line
	partial bool // the rest of it is still to come
	whole   bool // a GET or HEAD without a body: nothing of it follows the head
	plain   bool // nothing asks for more than the file at path, or whether it is the same
	last    bool // the client wants the connection closed

	path, query                 []byte
	host, cookie, accept, match []byte
}

// parseQuick reads the head of a request, as far as that is simple. It is strict:
// what is in any way unusual is not whole, and for net/http to judge.
func parseQuick(b []byte) (q quickRequest) {
	line, rest, partial := cutLine(b)
	if partial {
		q.partial = startsAlike(b, "GET ") || startsAlike(b, "HEAD ")
		return q
	}
	if !q.request(line) {
		return q
	}
	q.plain = line[0] == 'G'
	conditional := false
	for {
		if line, rest, partial = cutLine(rest); line == nil {
			q.partial, q.plain = partial, false
			return q
		}
		if len(line) == 0 {
			break
		}
		name, value, ok := cutField(line)
		if !ok || !q.field(name, value, &conditional) {
			q.plain = false
			return q
		}
	}
	q.size, q.whole = len(b)-len(rest), len(q.host) > 0
	// What was changed since some time is for net/http to find out; where there is
	// an ETag it does not count.
	q.plain = q.plain && q.whole && (!conditional || len(q.match) > 0)
	return q
}

// cutLine cuts off a line that ends with CR and LF. The line is nil where there is
// none: it is partial, or ends in another way.
func cutLine(b []byte) (line, rest []byte, partial bool) {
	i := bytes.IndexByte(b, '\n')
	switch {
	case i < 0:
		return nil, nil, true
	case i == 0 || b[i-1] != '\r':
		return nil, nil, false
	}
	return b[: i-1 : i-1], b[i+1:], false
}

func startsAlike(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}

// request reads the first line.
func (q *quickRequest) request(line []byte) bool {
	target, ok := bytes.CutSuffix(line, []byte(" HTTP/1.1"))
	if !ok {
		return false
	}
	if target, ok = bytes.CutPrefix(target, []byte("GET ")); !ok {
		if target, ok = bytes.CutPrefix(target, []byte("HEAD ")); !ok {
			return false
		}
	}
	if len(target) == 0 || target[0] != '/' {
		return false
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '%' || c == '#' { // to be decoded, or refused
			return false
		}
	}
	q.path, q.query, _ = bytes.Cut(target, []byte("?"))
	return true
}

// cutField parts a field into its name and its value.
func cutField(line []byte) (name, value []byte, ok bool) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return nil, nil, false
	}
	for _, c := range line[:colon] {
		if !isNameByte[c] {
			return nil, nil, false
		}
	}
	for _, c := range line[colon+1:] {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, false
		}
	}
	from, to := colon+1, len(line)
	for from < to && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for from < to && (line[to-1] == ' ' || line[to-1] == '\t') {
		to--
	}
	return line[:colon], line[from:to], true
}

// isNameByte are the characters of which names of fields are made (RFC 9110, 5.6.2).
var isNameByte = func() (is [256]bool) {
	for c := range 256 {
		b := byte(c)
		is[c] = b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z' || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), b) >= 0
	}
	return is
}()

// field takes a field into account. It is false where the request may have a body,
// or wants something of the connection, or is none at all.
func (q *quickRequest) field(name, value []byte, conditional *bool) bool {
	is := func(s string) bool { return bytes.EqualFold(name, []byte(s)) }
	once := func(to *[]byte) {
		q.plain = q.plain && *to == nil
		*to = value
	}
	switch len(name) {
	case 4:
		if is("Host") {
			known := q.host != nil
			q.host = value
			return !known && isHost(value)
		}
	case 5:
		q.plain = q.plain && !is("Range")
	case 6:
		if is("Cookie") {
			once(&q.cookie)
		}
		return !is("Expect")
	case 7:
		return !is("Upgrade") && !is("Trailer")
	case 8:
		q.plain = q.plain && !is("If-Match") && !is("If-Range")
	case 10:
		q.plain = q.plain && !is(pinHeader)
		if is("Connection") {
			q.last = q.last || bytes.EqualFold(value, []byte("close"))
			return q.last || bytes.EqualFold(value, []byte("keep-alive"))
		}
	case 13:
		if is("If-None-Match") {
			once(&q.match)
			q.plain = q.plain && (len(value) == 0 || isETag(value))
		}
	case 14:
		return !is("Content-Length")
	case 15:
		if is("Accept-Encoding") {
			once(&q.accept)
		}
	case 17:
		*conditional = *conditional || is("If-Modified-Since")
		return !is("Transfer-Encoding")
	case 19:
		q.plain = q.plain && !is("If-Unmodified-Since")
	}
	return true
}

// isHost: a name or an address, with a port or without.
func isHost(b []byte) bool {
	for _, c := range b {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return len(b) > 0
}

// isETag: one strong validator.
func isETag(b []byte) bool {
	return len(b) >= 2 && b[0] == '"' && bytes.IndexByte(b[1:], '"') == len(b)-2
}
