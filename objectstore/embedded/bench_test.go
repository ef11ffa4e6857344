//go:build !noembed

package embedded

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkPut is what durability costs: the backend with and without its
// syncs, below HTTP, eight writers at once.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{16 << 10, 8 << 20} {
		for name, sync := range map[string]func(*os.File) error{"durable": (*os.File).Sync, "not": func(*os.File) error { return nil }} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				c, err := testConfig(b.TempDir()).withDefaults()
				if err != nil {
					b.Fatal(err)
				}
				b.Chdir(c.Dir)
				d, err := openBackend(b.Context(), c, syncer{sync})
				if err != nil {
					b.Fatal(err)
				}
				defer d.Shutdown()
				body := strings.Repeat("relman!\n", size/8)
				var n atomic.Int64
				b.SetBytes(int64(size))
				b.SetParallelism(4)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						i := n.Add(1)
						key := fmt.Sprintf("packs/%02x/%d", i%256, i)
						if err := put(b.Context(), d, key, body, true); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
