package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"relman/cluster"
)

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// lines are the records with a message.
func (b *buffer) lines(t *testing.T, message string) []map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []map[string]any
	for line := range strings.Lines(b.b.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record["msg"] == message {
			list = append(list, record)
		}
	}
	return list
}

// TestLog: each change is one line that says what; a refusal is for debugging.
func TestLog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var log buffer
		m := New(w.fake, Config{ID: "m1", Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		w.start(func(ctx context.Context) { _ = m.Run(ctx) })
		refused := false
		w.setFault(func(txn cluster.Txn) error {
			if strings.HasPrefix(txn.Name, "flip") && !refused {
				refused = true
				return &cluster.Refusal{Txn: txn.Name, Guard: cluster.Guard{Key: "k", Class: cluster.ClassRosterChanged}}
			}
			return nil
		})
		w.nodes(3, time.Second)
		r := w.publish(1)
		w.ended(r, cluster.StateActive, 1, 1)
		w.ended(w.ask(cluster.Desired{Mode: cluster.FlipTo, Release: rel(1)}), cluster.StateActive, 1, 1)

		for message, want := range map[string]struct {
			lines int
			level string
			attrs map[string]any
		}{
			"leading":         {1, "INFO", map[string]any{"manager": "m1"}},
			"node admitted":   {3, "INFO", map[string]any{"site": "www"}},
			"rollout started": {1, "INFO", map[string]any{"site": "www", "release": string(rel(1)), "buffer": 0.0, "request": string(r)}},
			"refused":         {1, "DEBUG", map[string]any{"site": "www", "class": "E_ROSTER_CHANGED"}},
			"flipped": {1, "INFO", map[string]any{
				"site": "www", "release": string(rel(1)), "epoch": 1.0, "buffer": 0.0, "kind": "publish",
				"claims": 3.0, "members": 3.0, "request": string(r), "duration_ms": 0.0,
			}},
			"request ended": {1, "INFO", map[string]any{"site": "www", "state": "active", "release": string(rel(1))}},
		} {
			got := log.lines(t, message)
			if len(got) != want.lines {
				t.Errorf("%d lines %q, want %d: %v", len(got), message, want.lines, got)
				continue
			}
			if got[0]["level"] != want.level {
				t.Errorf("%q is %v, want %s", message, got[0]["level"], want.level)
			}
			for k, v := range want.attrs {
				if got[0][k] != v {
					t.Errorf("%q: %s is %v, want %v", message, k, got[0][k], v)
				}
			}
		}
	})
}
