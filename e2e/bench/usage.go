package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Memory is read from /proc while a program runs, not from its rusage: the
// kernel counts there what the program was forked from, which is this one.

// highWater sums the peak memory of a process and its children, in bytes.
func highWater(pid int) int64 {
	var sum int64
	for _, line := range procLines(pid, "status") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			sum += kilobytes(rest)
		}
	}
	for _, child := range childrenOf(pid) {
		sum += highWater(child)
	}
	return sum
}

// childrenOf are the processes that a process has started; none when it has
// ended.
func childrenOf(pid int) (list []int) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue
		}
		for c := range strings.FieldsSeq(string(children)) {
			if child, err := strconv.Atoi(c); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}

func procLines(pid int, file string) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil // it has ended
	}
	return strings.Split(string(b), "\n")
}

func kilobytes(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s), "kB")), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// watchMemory looks at a process until stop is called, which returns the
// highest that it saw.
func watchMemory(pid int) (stop func() int64) {
	done, peak := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		high := highWater(pid)
		for {
			select {
			case <-tick.C:
				high = max(high, highWater(pid))
			case <-done:
				peak <- high
				return
			}
		}
	}()
	return func() int64 {
		close(done)
		return <-peak
	}
}

// usage is what a running process has taken.
type usage struct {
	cpu  time.Duration
	peak int64 // of its memory, since resetPeak
	now  int64 // of its memory
}

// resetPeak has the peak of a process begin anew.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// usageOf reads what a running process has taken. The kernel counts time here
// in hundredths of a second.
func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on
	if len(fields) < 13 {
		return usage{}, errors.New("/proc: stat has too few fields")
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return usage{}, err
	}
	u := usage{cpu: time.Duration(user+system) * 10 * time.Millisecond}
	for _, line := range procLines(pid, "status") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			u.peak = kilobytes(rest)
		}
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			u.now = kilobytes(rest)
		}
	}
	return u, nil
}

// syncTree waits until all that was written to a directory's file system is on
// the disk: what `sync -f` does.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("syncfs %s: %w", dir, err)
	}
	return nil
}
