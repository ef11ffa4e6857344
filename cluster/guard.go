package cluster

import (
	"fmt"
	"strings"
)

// Field is what a guard looks at.
type Field int

// What a guard can look at. A key that does not exist has Mod and Create 0 and
// no value.
const (
	Mod    Field = iota // revision of the last change
	Create              // revision of the creation
	Value
)

// Guard is one condition of a transaction: what must be so at the revision at
// which it commits, and the class of the error when it is not.
type Guard struct {
	Key string
	// Prefix makes the guard hold for every key that begins with Key. Of an
	// empty range, a Value guard is false and a revision guard sees 0.
	Prefix bool
	Field  Field
	Not    bool // the field differs from what stands here
	Rev    int64
	Value  string
	Class  Class
}

// unchanged: key is as it was read, mod 0 meaning that it did not exist.
func unchanged(key string, mod int64, c Class) Guard {
	return Guard{Key: key, Field: Mod, Rev: mod, Class: c}
}

// created: key is the very one that was created at rev. A rev of 0 is no
// creation: such a guard never holds, where "equal to 0" would hold for a key
// that does not exist.
func created(key string, rev int64, c Class) Guard {
	if rev == 0 {
		rev = -1
	}
	return Guard{Key: key, Field: Create, Rev: rev, Class: c}
}

// absent: key does not exist.
func absent(key string, c Class) Guard { return Guard{Key: key, Field: Create, Class: c} }

// allAbsent: there is no key under prefix.
func allAbsent(prefix string, c Class) Guard {
	return Guard{Key: prefix, Prefix: true, Field: Create, Class: c}
}

// present: key exists.
func present(key string, c Class) Guard { return Guard{Key: key, Field: Create, Not: true, Class: c} }

// valueIs: key exists and has this value.
func valueIs(key, value string, c Class) Guard {
	return Guard{Key: key, Field: Value, Value: value, Class: c}
}

// everyValueIs: there are keys under prefix, and all have this value.
func everyValueIs(prefix, value string, c Class) Guard {
	return Guard{Key: prefix, Prefix: true, Field: Value, Value: value, Class: c}
}

// Pair is a key as a guard sees it.
type Pair struct {
	Key         string
	Value       string
	Mod, Create int64
}

// Holds says what etcd's compare would say of these pairs, which are all that
// exist under the guard's key or prefix.
func (g Guard) Holds(pairs []Pair) bool {
	if len(pairs) == 0 {
		return g.Field != Value && g.holds(Pair{})
	}
	for _, p := range pairs {
		if !g.holds(p) {
			return false
		}
	}
	return true
}

func (g Guard) holds(p Pair) bool {
	var same bool
	switch g.Field {
	case Mod:
		same = p.Mod == g.Rev
	case Create:
		same = p.Create == g.Rev
	case Value:
		same = p.Value == g.Value
	}
	return same != g.Not
}

// reason says in words what did not hold.
func (g Guard) reason(found string) string {
	key := strings.TrimPrefix(g.Key, Prefix)
	switch {
	case g.Prefix && found == "":
		return fmt.Sprintf("there is no claim under %s", key)
	case g.Prefix && g.Field == Create:
		return fmt.Sprintf("there are keys under %s: %s", key, found)
	case g.Prefix:
		return fmt.Sprintf("not every claim under %s is %q: %s", key, g.Value, found)
	case found == "":
		return key + " does not exist"
	case g.Field == Value:
		return fmt.Sprintf("%s is not %q: %s", key, g.Value, found)
	case g.Rev == 0:
		return fmt.Sprintf("%s exists: %s", key, found)
	default:
		return fmt.Sprintf("%s has changed: %s", key, found)
	}
}

// mostFound is how many of a range's keys a refusal names.
const mostFound = 20

// found says what stood where the guard looked: the value of a key, or those
// keys of a range, at most 20, that are not as the guard wants them.
func (g Guard) found(pairs []Pair) string {
	if !g.Prefix {
		for _, p := range pairs {
			return p.Value
		}
		return ""
	}
	var bad []string
	for _, p := range pairs {
		if !g.holds(p) {
			bad = append(bad, fmt.Sprintf("%s is %q", strings.TrimPrefix(p.Key, g.Key), p.Value))
		}
	}
	if more := len(bad) - mostFound; more > 0 {
		bad = append(bad[:mostFound], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(bad, ", ")
}
