package manager

import (
	"context"
	"fmt"
	"time"

	"relman/cluster"
)

// fakeLeadership is an election key in a fake.
type fakeLeadership struct {
	fake  *fake
	fence cluster.Fence
	done  chan struct{}
}

var _ Leadership = (*fakeLeadership)(nil)

// Campaign waits until its key is the oldest.
func (f *fake) Campaign(ctx context.Context, id string, _ time.Duration) (Leadership, error) {
	if err := f.call(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	key := fmt.Sprintf("%s/%06d", cluster.ElectionPrefix, f.revision)
	f.apply([]cluster.Op{{Key: key, Value: id}})
	l := &fakeLeadership{fake: f, fence: cluster.Fence{Key: key, Create: f.revision}, done: make(chan struct{})}
	f.leaders[key] = l
	f.mu.Unlock()
	for {
		f.mu.Lock()
		first, news := f.under(cluster.ElectionPrefix, true)[0], f.news
		f.mu.Unlock()
		if first.Key == key {
			return l, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			f.drop(key)
			return nil, ctx.Err()
		}
	}
}

func (l *fakeLeadership) Fence() cluster.Fence  { return l.fence }
func (l *fakeLeadership) Done() <-chan struct{} { return l.done }

func (l *fakeLeadership) Resign(ctx context.Context) error {
	if err := l.fake.call(ctx); err != nil {
		return err
	}
	l.fake.drop(l.fence.Key)
	return nil
}

// leader is the id of the manager whose key is the oldest, "" for none.
func (f *fake) leader() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if keys := f.under(cluster.ElectionPrefix, true); len(keys) > 0 {
		return keys[0].Value
	}
	return ""
}

// depose ends the leadership without telling the leader: it goes on to believe
// that it leads.
func (f *fake) depose() { f.drop(f.held().fence.Key) }

// held is the leadership whose key is the oldest.
func (f *fake) held() *fakeLeadership {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaders[f.under(cluster.ElectionPrefix, true)[0].Key]
}
