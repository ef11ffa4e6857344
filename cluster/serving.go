package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"relman/release"
)

// Serving says how nodes serve a site. It is no part of Policy: no decision
// about a flip rests on it, and changing it stops none.
type Serving struct {
	// Pin says which answers give a visitor a release to stay with: PinHTML or
	// PinOff.
	Pin string `json:"pin"`
	// PinSeconds is how long he stays with it.
	PinSeconds int `json:"pin_s"`
	// Retain is of how many releases that a node does not hold any more it keeps
	// what open pages may still ask for, RetainSeconds for how long at most.
	Retain        int `json:"retain"`
	RetainSeconds int `json:"retain_s"`
	// CleanURLs answers /about with about.html and leaves .html out of
	// addresses.
	CleanURLs bool `json:"clean_urls"`
	// Slash is what addresses end in: SlashAuto, SlashAlways, SlashNever or
	// SlashIgnore.
	Slash string `json:"slash"`
	// SPA answers pages that do not exist with /index.html.
	SPA bool `json:"spa"`
}

// The values of Serving.Pin.
const (
	PinHTML = "html" // pages do
	PinOff  = "off"  // none
)

// The values of Serving.Slash.
const (
	SlashAuto   = "auto"   // as the files have it
	SlashAlways = "always" // every page
	SlashNever  = "never"  // no page
	SlashIgnore = "ignore" // both are answered, nothing is redirected
)

const mostRetain = 100

// DefaultServing is how a new site is served.
func DefaultServing() Serving {
	return Serving{Pin: PinHTML, PinSeconds: 60, Retain: 3, RetainSeconds: 24 * 3600, Slash: SlashAuto}
}

// PinTime is PinSeconds as a duration.
func (s Serving) PinTime() time.Duration { return time.Duration(s.PinSeconds) * time.Second }

// RetainTime is RetainSeconds as a duration.
func (s Serving) RetainTime() time.Duration { return time.Duration(s.RetainSeconds) * time.Second }

// Validate says what is wrong with it.
func (s Serving) Validate() error {
	switch s.Pin {
	case PinHTML, PinOff:
	default:
		return fmt.Errorf("serving: pin is %q, it can be %s or %s", s.Pin, PinHTML, PinOff)
	}
	if s.PinSeconds < 1 || s.PinSeconds > 24*3600 {
		return fmt.Errorf("serving: pin_s is %d, it can be 1 to 86400", s.PinSeconds)
	}
	if s.Retain < 0 || s.Retain > mostRetain {
		return fmt.Errorf("serving: retain is %d, it can be 0 to %d", s.Retain, mostRetain)
	}
	if s.RetainSeconds < 0 || s.RetainSeconds > 30*24*3600 {
		return fmt.Errorf("serving: retain_s is %d, it can be 0 to 2592000", s.RetainSeconds)
	}
	switch s.Slash {
	case SlashAuto, SlashAlways, SlashNever, SlashIgnore:
	default:
		return fmt.Errorf("serving: slash is %q, it can be %s, %s, %s or %s", s.Slash, SlashAuto, SlashAlways, SlashNever, SlashIgnore)
	}
	return nil
}

// Secret is what the nodes of a site share. It prints as nothing.
type Secret []byte

const secretBytes = 32

// newSecret is 32 random bytes in hex.
func newSecret() string {
	b := make([]byte, secretBytes)
	rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

func parseSecret(key string, raw []byte) (Secret, error) {
	b, err := hex.DecodeString(string(raw))
	if err != nil || len(b) != secretBytes {
		return nil, fmt.Errorf("read %s: %d hex digits are wanted", key, 2*secretBytes) // without what it holds
	}
	return b, nil
}

// String hides it.
func (Secret) String() string { return "***" }

// GoString hides it.
func (Secret) GoString() string { return "***" }

// Serving reads how a site is served.
func (c *Client) Serving(ctx context.Context, site release.Site) (Entry[Serving], error) {
	e, err := getEntry[Serving](ctx, c, ServingKey(site))
	if err == nil && !e.Exists() {
		err = fmt.Errorf("site %s: %w", site, ErrNotFound)
	}
	return e, err
}

// SetServing changes how a site is served: change is given what is, and called
// again where somebody else changed it meanwhile.
func (c *Client) SetServing(ctx context.Context, site release.Site, change func(*Serving)) (Serving, error) {
	for {
		e, err := c.Serving(ctx, site)
		if err != nil {
			return Serving{}, err
		}
		next := e.Value
		change(&next)
		if err := next.Validate(); err != nil {
			return Serving{}, err
		}
		if next == e.Value {
			return next, nil
		}
		_, err = c.Commit(ctx, Txn{
			Name:   "change how " + string(site) + " is served",
			Guards: []Guard{unchanged(ServingKey(site), e.Mod, ClassConflict)},
			Ops:    []Op{put(ServingKey(site), next)},
		}.markLast())
		if !errors.Is(err, ErrConflict) {
			return next, err
		}
	}
}

// Secret reads what the nodes of a site share.
func (c *Client) Secret(ctx context.Context, site release.Site) (Secret, error) {
	r, err := c.read(ctx, "read the secret of "+string(site), clientv3.OpGet(SecretKey(site)))
	if err != nil {
		return nil, err
	}
	kv := only(ranged(r, 0))
	if kv == nil {
		return nil, fmt.Errorf("the secret of site %s: %w", site, ErrNotFound)
	}
	return parseSecret(SecretKey(site), kv.Value)
}
