//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Point does what RELMAN_FAILPOINTS says of name, for example
// "node.before-claim=kill,publish.after-packs=sleep:5s":
//
//	kill        SIGKILL to the own process
//	stop        SIGSTOP to the own process
//	sleep:D     wait for the duration D
//	error       return an error that names the point
//	meet:N:DIR  wait until N processes are there, for a minute at most; DIR is theirs
func Point(name string) error {
	for _, rule := range strings.Split(os.Getenv("RELMAN_FAILPOINTS"), ",") {
		at, action, _ := strings.Cut(rule, "=")
		if at != name {
			continue
		}
		fmt.Fprintf(os.Stderr, "failpoint %s: %s\n", name, action)
		verb, arg, _ := strings.Cut(action, ":")
		switch verb {
		case "kill":
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "stop":
			return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		case "sleep":
			d, err := time.ParseDuration(arg)
			if err != nil {
				return fmt.Errorf("failpoint %s: %w", name, err)
			}
			time.Sleep(d)
		case "meet":
			if err := meet(arg); err != nil {
				return fmt.Errorf("failpoint %s: %w", name, err)
			}
		case "error":
			return fmt.Errorf("failpoint %s", name)
		default:
			return fmt.Errorf("failpoint %s: no such action %q", name, action)
		}
	}
	return nil
}

// Now is the time by a clock that RELMAN_CLOCK_OFFSET sets wrong, "-1h" for
// example.
func Now() time.Time { return time.Now().Add(clockOffset()) }

// clockOffset panics where what it is told is no duration: a test that goes by the
// right time after all would say nothing.
var clockOffset = sync.OnceValue(func() time.Duration {
	text := os.Getenv("RELMAN_CLOCK_OFFSET")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(fmt.Sprintf("RELMAN_CLOCK_OFFSET: %v", err))
	}
	return d
})

// meet waits for others in a directory.
func meet(arg string) error {
	count, dir, _ := strings.Cut(arg, ":")
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "met-")
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for range 60_000 {
		there, err := os.ReadDir(dir)
		if err != nil || len(there) >= n {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("nobody came to %s", dir)
}
