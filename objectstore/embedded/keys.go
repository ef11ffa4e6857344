//go:build !noembed

package embedded

import (
	"context"
	"sync"
)

// keyLocks serialises what happens to one object between the moment at which
// it becomes visible and the moment at which it is durable. Writers hold a
// key's lock over both; readers wait for it, so that nobody is told of an
// object that a power cut may still take away.
type keyLocks struct {
	mu sync.Mutex
	m  map[string]*keyLock // guarded by mu; only keys in use or in doubt
}

type keyLock struct {
	held  chan struct{} // holds one value while the key is locked
	users int           // holders and waiters; guarded by keyLocks.mu
	doubt error         // why the object may not be durable; guarded by keyLocks.mu
}

func (k *keyLocks) lock(ctx context.Context, key string) error {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[string]*keyLock{}
	}
	l := k.m[key]
	if l == nil {
		l = &keyLock{held: make(chan struct{}, 1)}
		k.m[key] = l
	}
	l.users++
	k.mu.Unlock()
	select {
	case l.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		k.leave(key, l)
		return ctx.Err()
	}
}

func (k *keyLocks) unlock(key string) {
	k.mu.Lock()
	l := k.m[key]
	k.mu.Unlock()
	<-l.held
	k.leave(key, l)
}

func (k *keyLocks) leave(key string, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 && l.doubt == nil {
		delete(k.m, key)
	}
}

// settle waits until nobody is committing the key, and tells whether it is in
// doubt.
func (k *keyLocks) settle(ctx context.Context, key string) error {
	k.mu.Lock()
	_, busy := k.m[key]
	k.mu.Unlock()
	if !busy {
		return nil
	}
	if err := k.lock(ctx, key); err != nil {
		return err
	}
	defer k.unlock(key)
	return k.doubt(key)
}

// doubt and setDoubt are for the holder of the key's lock.
func (k *keyLocks) doubt(key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.m[key].doubt
}

func (k *keyLocks) setDoubt(key string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.m[key].doubt = err
}
