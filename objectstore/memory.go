package objectstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Memory is a Store in memory, for tests. It polices the rule that objects are
// immutable: other bytes under a key that names its content are an error.
type Memory struct {
	mu      sync.Mutex
	objects map[string]memoryObject // guarded by mu
}

type memoryObject struct {
	body     []byte
	modified time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory is an empty store.
func NewMemory() *Memory { return &Memory{objects: map[string]memoryObject{}} }

// Put stores an object.
func (m *Memory) Put(ctx context.Context, key string, body []byte, create bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if err := checkSize(key, body); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.objects[key]
	if ok && create {
		return fmt.Errorf("put %s: %w", key, ErrExists)
	}
	if ok && !strings.HasSuffix(key, layoutName) && !bytes.Equal(old.body, body) {
		return fmt.Errorf("put %s: an immutable object would change", key)
	}
	m.objects[key] = memoryObject{bytes.Clone(body), time.Now()}
	return nil
}

// Get reads a range of an object.
func (m *Memory) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := m.object(ctx, "get", key)
	if err != nil {
		return nil, err
	}
	b := o.body[min(offset, int64(len(o.body))):]
	if length < 0 {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	if length > int64(len(b)) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b), beyond{key})), nil
	}
	return io.NopCloser(bytes.NewReader(b[:length])), nil
}

func (m *Memory) object(ctx context.Context, op, key string) (memoryObject, error) {
	if err := ctx.Err(); err != nil {
		return memoryObject{}, fmt.Errorf("%s %s: %w", op, key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return o, fmt.Errorf("%s %s: %w", op, key, ErrNotFound)
	}
	return o, nil
}

// Stat asks for an object's size and time.
func (m *Memory) Stat(ctx context.Context, key string) (Info, error) {
	o, err := m.object(ctx, "look for", key)
	return Info{Key: key, Size: int64(len(o.body)), Modified: o.modified}, err
}

// List goes through all objects with a prefix.
func (m *Memory) List(ctx context.Context, prefix string, each func(Info) error) error {
	m.mu.Lock()
	var found []Info
	for k, o := range m.objects {
		if strings.HasPrefix(k, prefix) {
			found = append(found, Info{Key: k, Size: int64(len(o.body)), Modified: o.modified})
		}
	}
	m.mu.Unlock()
	for _, i := range found {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := each(i); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes an object.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}
