package release

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkParseManifest(b *testing.B) {
	for _, n := range []int{10_000, 15_000, 100_000} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) {
			raw := mustNew(b, 1, day, nil, manyFiles(n)...).Raw()
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseManifest(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("files=%d", n), func(b *testing.B) {
			files := manyFiles(n)
			base := mustNew(b, 1, day, nil, files...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := New("www", 2, day, base, files); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPaths(b *testing.B) {
	lower := manyFiles(100_000)
	upper, other := manyFiles(100_000), manyFiles(100_000)
	for i := range upper {
		upper[i].Path = strings.ToUpper(upper[i].Path)
		other[i].Path = strings.ReplaceAll(other[i].Path, "section", "sección")
	}
	for name, files := range map[string][]File{"lower": lower, "upper": upper, "unicode": other} {
		b.Run(name+"/files=100000", func(b *testing.B) {
			for b.Loop() {
				for i := range files {
					if err := ValidatePath(files[i].Path); err != nil {
						b.Fatal(err)
					}
				}
				if err := CheckTree(files); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
