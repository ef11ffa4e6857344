//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strings"
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
		case "error":
			return fmt.Errorf("failpoint %s", name)
		default:
			return fmt.Errorf("failpoint %s: no such action %q", name, action)
		}
	}
	return nil
}
