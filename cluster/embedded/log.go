//go:build !noembed

package embedded

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What a member does; etcd warns of things that are as they should be while it
// starts, and calls its own end an error.
const (
	starting = iota
	running
	stopping
)

// retried are lines about what etcd tries again by itself: a new member has no
// storage version to write down before its first snapshot.
var retried = map[string]bool{
	"Failed to detect schema version":  true,
	"failed to update storage version": true,
}

// bridge is a zapcore.Core that writes to slog. etcd's information is debug
// output of relman.
type bridge struct {
	log   *slog.Logger
	phase *atomic.Int32 // starting, running, stopping
	attrs []slog.Attr
}

func newBridge(log *slog.Logger) *bridge {
	return &bridge{log: log.With("component", "etcd"), phase: new(atomic.Int32)}
}

func (b *bridge) logger() *zap.Logger { return zap.New(b) }

// level is how loud a line is in relman.
func (b *bridge) level(l zapcore.Level) slog.Level {
	phase := b.phase.Load()
	switch {
	case l >= zapcore.DPanicLevel:
		return slog.LevelError
	case l == zapcore.ErrorLevel && phase != stopping:
		return slog.LevelError
	case l == zapcore.WarnLevel && phase == running:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// Enabled reports whether a line of this level would be written.
func (b *bridge) Enabled(l zapcore.Level) bool {
	return b.log.Enabled(context.Background(), b.level(l))
}

// With adds fields to every line.
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	c := *b
	c.attrs = append(append([]slog.Attr{}, b.attrs...), attrs(fields)...)
	return &c
}

// Check adds the core to a line that it would write.
func (b *bridge) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return ce.AddCore(e, b)
	}
	return ce
}

// Write writes a line.
func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := b.level(e.Level)
	if retried[e.Message] {
		level = slog.LevelDebug
	}
	//nolint:sloglint // the message is etcd's own
	b.log.LogAttrs(context.Background(), level, e.Message, append(attrs(fields), b.attrs...)...)
	return nil
}

// Sync does nothing: slog does not buffer.
func (b *bridge) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	out := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}
