package nodeagent

import "strings"

// coding is a content coding, by rank: of two that a client likes as much, the
// first one is sent.
type coding uint8

const (
	brotli coding = iota
	zstandard
	gzipped
	codingCount

	noCoding = codingCount // the file as it is
)

// What the codings are called in HTTP, and how a build marks their files.
var (
	codingNames    = [codingCount]string{"br", "zstd", "gzip"}
	codingSuffixes = [codingCount]string{".br", ".zst", ".gz"}
)

func (c coding) String() string {
	if c >= codingCount {
		return "identity"
	}
	return codingNames[c]
}

// codingSet is some of the codings.
type codingSet uint8

func (s codingSet) has(c coding) bool        { return s&(1<<c) != 0 }
func (s codingSet) with(c coding) codingSet  { return s | 1<<c }
func (s codingSet) minus(c coding) codingSet { return s &^ (1 << c) }

// negotiate picks what a client wants most of the codings that there are, by
// its Accept-Encoding (RFC 9110, 12.5.3): by weight, and of equal ones by rank.
// What a client does not name is as good as the star says; without one it may
// not be sent, but for the file as it is, which may, as the last choice. A
// client that wants nothing of what there is gets the file as it is too.
func negotiate(accept string, there codingSet) coding {
	if there == 0 || accept == "" {
		return noCoding
	}
	const unsaid = -1
	weights := [codingCount + 1]int{unsaid, unsaid, unsaid, unsaid}
	star := unsaid
	for accept != "" {
		var member string
		member, accept, _ = strings.Cut(accept, ",")
		name, params, weighted := strings.Cut(member, ";")
		weight := mostWeight
		if weighted {
			var ok bool
			if weight, ok = parseWeight(params); !ok {
				continue // who knows what it asks for
			}
		}
		if name = strings.Trim(name, " \t"); name == "*" {
			star = weight
		} else if c, ok := codingOf(name); ok {
			weights[c] = weight
		}
	}
	best, most := noCoding, weights[noCoding]
	if most == unsaid {
		most = max(star, 0)
	}
	for c := noCoding; c > 0; {
		c--
		weight := weights[c]
		if weight == unsaid {
			weight = star
		}
		if there.has(c) && weight > 0 && weight >= most {
			best, most = c, weight
		}
	}
	return best
}

// codingOf reads a name; case does not matter.
func codingOf(name string) (coding, bool) {
	for c, known := range codingNames {
		if strings.EqualFold(name, known) {
			return coding(c), true
		}
	}
	switch {
	case strings.EqualFold(name, "x-gzip"):
		return gzipped, true
	case strings.EqualFold(name, "identity"):
		return noCoding, true
	}
	return 0, false
}

// mostWeight is a weight of 1: weights are thousandths.
const mostWeight = 1000

// parseWeight reads "q=0.5". There are no other parameters.
func parseWeight(params string) (int, bool) {
	name, value, ok := strings.Cut(strings.Trim(params, " \t"), "=")
	if !ok || !strings.EqualFold(name, "q") {
		return 0, false
	}
	whole, part, _ := strings.Cut(value, ".")
	if whole != "0" && whole != "1" || len(part) > 3 {
		return 0, false
	}
	weight := 0
	for i := range 3 {
		digit := 0
		if i < len(part) {
			if part[i] < '0' || part[i] > '9' {
				return 0, false
			}
			digit = int(part[i] - '0')
		}
		weight = 10*weight + digit
	}
	if whole == "1" {
		return mostWeight, weight == 0
	}
	return weight, true
}
