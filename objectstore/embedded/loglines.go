//go:build !noembed

package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// logLines turns the child's JSON log lines back into records of the parent's
// logger, and anything else that it prints (a panic, say) into warnings.
type logLines struct {
	to      *slog.Logger
	partial []byte
	recent  []string // the last few lines that were no records
}

// last is what the child said before it ended, for an error message; it is
// called after the child has ended.
func (l *logLines) last() string {
	if len(l.recent) == 0 {
		return ""
	}
	return ": " + strings.Join(l.recent, "; ")
}

func (l *logLines) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.log(line)
		l.partial = rest
	}
}

func (l *logLines) log(line []byte) {
	var record map[string]any
	if err := json.Unmarshal(line, &record); err != nil {
		if s := strings.TrimSpace(string(line)); s != "" {
			l.recent = append(l.recent[max(0, len(l.recent)-4):], s)
		}
		said(l.to, string(line))
		return
	}
	level := slog.LevelInfo
	if s, ok := record[slog.LevelKey].(string); ok {
		// An unknown level stays what it is by default.
		_ = level.UnmarshalText([]byte(s))
	}
	h, ctx := l.to.Handler(), context.Background()
	if !h.Enabled(ctx, level) {
		return
	}
	message, _ := record[slog.MessageKey].(string)
	r := slog.NewRecord(time.Now(), level, message, 0)
	for _, k := range slices.Sorted(maps.Keys(record)) {
		if k != slog.LevelKey && k != slog.MessageKey && k != slog.TimeKey {
			r.AddAttrs(slog.Any(k, record[k]))
		}
	}
	// A log that cannot be written has nobody to tell.
	_ = h.Handle(ctx, r)
}
