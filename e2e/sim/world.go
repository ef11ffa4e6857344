package main

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"relman/release"
)

// dawn is when every run begins.
var dawn = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is one run: a clock, a queue of what happens next, and one source of
// chance. Nothing else decides, so a seed replays exactly.
type world struct {
	seed  uint64
	bug   *bug // planted
	rnd   *rand.Rand
	now   time.Duration // since dawn
	queue queue
	order uint64
	tell  func(line string) // nil: silent

	etcd     *etcd
	store    *store
	check    *checker
	nodes    []*node
	managers []*chief
	requests int
	policy   plan
	bad      map[release.ID]int // releases that do not work, and on which node
	allBad   bool               // every release that is made from now on
	cordoned time.Duration      // when an operator last found a node cordoned after the faults
	quiet    bool               // the faults have stopped
	sum      tally
	broken   *breach // the first thing that went wrong
}

// breach is an invariant that was broken.
type breach struct {
	invariant string
	at        time.Duration
	text      string
}

func (b *breach) String() string {
	return fmt.Sprintf("%s after %.3f s: %s", b.invariant, b.at.Seconds(), b.text)
}

// event is something that happens at a time; those of one time happen in the
// order in which they were put.
type event struct {
	at    time.Duration
	order uint64
	do    func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(e any)   { *q = append(*q, e.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// after has something happen later.
func (w *world) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.order, do})
}

// run lets happen what happens until a time, or until an invariant is broken.
func (w *world) run(until time.Duration) {
	for len(w.queue) > 0 && w.broken == nil && w.queue[0].at <= until {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.sum.Steps++
		e.do()
	}
	if w.broken == nil {
		w.now = until
	}
}

// clock is the time of day.
func (w *world) clock() time.Time { return dawn.Add(w.now) }

// say tells what happens, in a replay.
func (w *world) say(format string, args ...any) {
	if w.tell != nil {
		w.tell(fmt.Sprintf("%9.3f  %s", w.now.Seconds(), fmt.Sprintf(format, args...)))
	}
}

// breaks notes that an invariant is broken. The first one counts.
func (w *world) breaks(invariant, format string, args ...any) {
	if w.broken == nil {
		w.broken = &breach{invariant, w.now, fmt.Sprintf(format, args...)}
		w.say("%s IS BROKEN: %s", invariant, w.broken.text)
	}
}

// odds is true in n of m cases.
func (w *world) odds(n, m int) bool { return w.rnd.IntN(m) < n }

// fault is odds while there are faults.
func (w *world) fault(n, m int) bool { return !w.quiet && w.odds(n, m) }

// between is a random duration.
func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rnd.Int64N(int64(b-a)+1))
}

// proc is a process: what it has begun ends with it, and stands still while it is
// paused.
type proc struct {
	w      *world
	name   string
	up     bool
	gen    int           // of its start
	pause  time.Duration // until when it stands still
	cut    bool          // from etcd
	leader int64         // create revision of the election key by which it acts, 0 for none
}

// after is the world's, for as long as this start of the process lasts.
func (p *proc) after(d time.Duration, do func()) {
	gen := p.gen
	var when func()
	when = func() {
		switch {
		case !p.up || p.gen != gen:
		case p.pause > p.w.now:
			p.w.after(p.pause-p.w.now, when)
		default:
			do()
		}
	}
	p.w.after(d, when)
}

// start makes it run anew.
func (p *proc) start() {
	p.up, p.pause = true, 0
	p.gen++
}

// kill ends it at once.
func (p *proc) kill() {
	p.up = false
	p.gen++
}
