//go:build !noembed

package embedded

import (
	"fmt"
	"log/slog"
	"testing"
)

func TestLogLines_areRecordsAgain(t *testing.T) {
	said := &lines{}
	l := &logLines{to: slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))}
	fmt.Fprint(l, `{"time":"2026-01-01T00:00:00Z","level":"ERROR","msg":"no more","b":1,"a":"x"}`+"\n"+`{"level":"DE`)
	fmt.Fprint(l, `BUG","msg":"detail"}`+"\n"+"panic: oh\n\n")
	want := "level=ERROR msg=\"no more\" a=x b=1\nlevel=WARN msg=\"the S3 server says\" line=\"panic: oh\"\n"
	if said.String() != want {
		t.Errorf("logged\n%swant\n%s", said, want)
	}
	if got := l.last(); got != ": panic: oh" {
		t.Errorf("the last words are %q", got)
	}
}
