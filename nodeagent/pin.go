package nodeagent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"relman/cluster"
	"relman/release"
)

// A pin is what a visitor carries so that all of a page comes from one release,
// whichever nodes answer:
//
//	57.000042-3f9ac1d2e4b5.<mac>               was shown in epoch 57
//	57-0420.000042-3f9ac1d2e4b5.<mac>          the same, of a visitor with a lot for canaries
//	preview-1764000000.000043-7f3a9c1e22b0.<mac>   may be looked at until then
//
// The mac is a HMAC-SHA256 under a key that only the nodes of the site have,
// cut to 16 bytes. So nobody can look at releases that were never active, or make
// nodes ask etcd for epochs that do not exist.
type pin struct {
	release release.ID
	epoch   release.Epoch // 0: a preview
	until   time.Time     // of a preview
	lot     int           // by which a canary is for this visitor or not; 0: none was drawn
}

func (p pin) preview() bool { return p.epoch == 0 }

const (
	pinCookie     = "relman"
	pinHeader     = "Relman-Pin"
	pinPath       = "_r/" // at the top, before a pin and the path
	previewQuery  = "relman-preview"
	previewPrefix = "preview-"
	macBytes      = 16
	mostPin       = 128 // bytes; a longer one is none
)

var errPin = errors.New("not a pin of this site")

// pins makes and reads the pins of one site.
type pins struct {
	site   release.Site
	key    []byte
	suffix string // of a Set-Cookie, after the value
}

// newPins are nil where the site has no secret.
func newPins(site release.Site, s cluster.Serving, secret cluster.Secret) *pins {
	if len(secret) == 0 {
		return nil
	}
	age := strconv.Itoa(s.PinSeconds)
	return &pins{site, secret, "; Path=/; Max-Age=" + age + "; HttpOnly; SameSite=Lax"}
}

// mac signs the part of a pin before its last dot.
func (p *pins) mac(text string) string {
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte("relman pin\x00" + string(p.site) + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:macBytes])
}

func (p *pins) signed(text string) string { return text + "." + p.mac(text) }

// value is the pin of a release that is shown.
func (p *pins) value(epoch release.Epoch, id release.ID) string {
	return p.signed(strconv.FormatUint(uint64(epoch), 10) + "." + string(id))
}

// withLot is value for a visitor who has a lot.
func (p *pins) withLot(epoch release.Epoch, id release.ID, lot int) string {
	return p.signed(strconv.FormatUint(uint64(epoch), 10) + "-" + strconv.Itoa(lot) + "." + string(id))
}

// PreviewToken is a pin with which any node that holds a release of a site
// shows it, active or not, until a time.
func PreviewToken(site release.Site, secret cluster.Secret, id release.ID, until time.Time) string {
	p := pins{site: site, key: secret}
	return p.signed(previewPrefix + strconv.FormatInt(until.Unix(), 10) + "." + string(id))
}

// read checks a pin. Its error does not say what is wrong: who made it up need
// not know.
func (p *pins) read(value string) (pin, error) {
	if len(value) > mostPin {
		return pin{}, errPin
	}
	dot := strings.LastIndexByte(value, '.')
	if dot < 0 || !hmac.Equal([]byte(value[dot+1:]), []byte(p.mac(value[:dot]))) {
		return pin{}, errPin
	}
	// Signed by a node: what follows is well-formed, but for a bug.
	when, id, _ := strings.Cut(value[:dot], ".")
	r, err := release.ParseID(id)
	if err != nil {
		return pin{}, errPin
	}
	if at, ok := strings.CutPrefix(when, previewPrefix); ok {
		unix, err := strconv.ParseInt(at, 10, 64)
		if until := time.Unix(unix, 0); err == nil && time.Now().Before(until) {
			return pin{release: r, until: until}, nil
		}
		return pin{}, errPin
	}
	number, drawn, has := strings.Cut(when, "-")
	epoch, err := strconv.ParseUint(number, 10, 64)
	if err != nil || epoch == 0 {
		return pin{}, errPin
	}
	var lot int
	if has {
		if lot, err = strconv.Atoi(drawn); err != nil || lot < 1 || lot > int(cluster.Whole) {
			return pin{}, errPin
		}
	}
	return pin{release: r, epoch: release.Epoch(epoch), lot: lot}, nil
}

// pinOf is what a request carries, "" for nothing. A pin in the path wins, then
// the header, since somebody set them on purpose. rest is the path without it.
func pinOf(r *http.Request) (value, rest string) {
	rest = r.URL.Path
	if after, ok := strings.CutPrefix(rest, "/"+pinPath); ok {
		value, after, _ = strings.Cut(after, "/")
		return value, "/" + after
	}
	if v := r.Header[pinHeader]; len(v) > 0 {
		return v[0], rest
	}
	for _, line := range r.Header["Cookie"] {
		if v, ok := pinIn(line); ok {
			return v, rest
		}
	}
	return "", rest
}

// pinIn finds the pin among cookies.
func pinIn(line string) (string, bool) {
	for line != "" {
		var one string
		one, line, _ = strings.Cut(line, ";")
		// A cookie of that name from elsewhere, of the parent domain maybe, has no parts.
		if v, ok := strings.CutPrefix(strings.TrimLeft(one, " "), pinCookie+"="); ok && strings.Contains(v, ".") {
			return strings.TrimRight(v, " "), true
		}
	}
	return "", false
}
