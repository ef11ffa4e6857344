package nodeagent

import (
	"net/http"
	"testing"
)

func TestNegotiate(t *testing.T) {
	all := codingSet(0).with(brotli).with(zstandard).with(gzipped)
	made := all.minus(brotli)
	onlyGzip := codingSet(0).with(gzipped)
	for _, c := range []struct {
		accept string
		there  codingSet
		want   coding
	}{
		// What browsers and tools send.
		{"gzip, deflate, br, zstd", all, brotli},
		{"gzip, deflate, br, zstd", made, zstandard},
		{"gzip, deflate, br", made, gzipped},
		{"gzip", all, gzipped},
		{"gzip", onlyGzip, gzipped},
		{"zstd", onlyGzip, noCoding},
		{"deflate, compress, exi", all, noCoding},
		// Nothing is said, or nothing is there.
		{"", all, noCoding},
		{" ", all, noCoding},
		{",", all, noCoding},
		{"gzip, br, zstd", 0, noCoding},
		// Weights come before rank.
		{"br;q=0.5, zstd;q=0.8, gzip;q=0.2", all, zstandard},
		{"br;q=0.5, zstd;q=0.8, gzip", all, gzipped},
		{"br;q=0.8, gzip;q=0.8, zstd;q=0.8", all, brotli},
		{"gzip;q=0.8, zstd;q=0.8", all, zstandard},
		{"gzip;q=0.801, zstd;q=0.8", all, gzipped},
		{"gzip;q=0.001", all, gzipped},
		{"br;q=0, zstd;q=0.000, gzip;q=0.1", all, gzipped},
		{"gzip;q=0", all, noCoding},
		{"gzip;q=0.0", onlyGzip, noCoding},
		{"gzip;q=1.000", all, gzipped},
		// The star stands for what is not named.
		{"*", all, brotli},
		{"*", onlyGzip, gzipped},
		{"*;q=0", all, noCoding},
		{"gzip, *;q=0", all, gzipped},
		{"br;q=0, *", all, zstandard},
		{"gzip;q=0.5, *;q=0.8", all, brotli},
		{"gzip;q=0.5, *;q=0.8", onlyGzip, noCoding}, // the file itself is of the star's too
		{"gzip;q=0.8, *;q=0.5", all, gzipped},
		{"identity;q=0, *;q=0.1", made, zstandard},
		// The file as it is.
		{"identity", all, noCoding},
		{"identity, gzip", all, gzipped},
		{"gzip;q=0.5, identity;q=0.8", all, noCoding},
		{"gzip;q=0.8, identity;q=0.5", all, gzipped},
		{"gzip;q=0.5, identity;q=0", all, gzipped},
		{"zstd, identity;q=0", onlyGzip, noCoding}, // nothing else is there
		{"identity;q=0", all, noCoding},
		{"identity;q=0.5, *;q=0", all, noCoding},
		// How it may be written.
		{"GZIP", all, gzipped},
		{"x-gzip", all, gzipped},
		{"X-GZip;Q=0.5", all, gzipped},
		{"\tgzip ;\tq=0.5\t, br ; q=0.4", all, gzipped},
		{"gzip,,br", all, brotli},
		{"gzip;q=0.", all, noCoding},
		{"gzip;q=1.", all, gzipped},
		{"gzip;q=0, gzip", all, gzipped}, // the last word counts
		// What means nothing is not obeyed.
		{"gzip;q=2", all, noCoding},
		{"gzip;q=1.001", all, noCoding},
		{"gzip;q=0.1234", all, noCoding},
		{"gzip;q=-1", all, noCoding},
		{"gzip;q=", all, noCoding},
		{"gzip;q=a", all, noCoding},
		{"gzip;q=0.5a", all, noCoding},
		{"gzip;level=9", all, noCoding},
		{"gzip;q=0.5;x=y", all, noCoding},
		{"gzip;", all, noCoding},
		{"gzipped, brotli, gzip2", all, noCoding},
		{"gzip br", all, noCoding},
		{"br;q=9, gzip", all, gzipped},
	} {
		if got := negotiate(c.accept, c.there); got != c.want {
			t.Errorf("%q of %03b: %s, want %s", c.accept, c.there, got, c.want)
		}
	}
}

// TestAcceptEncoding: several fields are one list.
func TestAcceptEncoding(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{nil, ""},
		{[]string{"gzip"}, "gzip"},
		{[]string{"gzip;q=0.5", "br"}, "gzip;q=0.5,br"},
	} {
		if got := acceptEncoding(http.Header{"Accept-Encoding": c.fields}); got != c.want {
			t.Errorf("%q: %q, want %q", c.fields, got, c.want)
		}
	}
}

func TestNegotiate_allocates(t *testing.T) {
	all := codingSet(0).with(brotli).with(gzipped)
	n := testing.AllocsPerRun(100, func() {
		if negotiate("gzip;q=0.5, deflate, br, zstd, *;q=0.1", all) != brotli {
			t.Error("not brotli")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
