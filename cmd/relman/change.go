package main

import (
	"context"
)

// change runs a command that changes something, and prints its outcome.
func (a *app) change(ctx context.Context, do func(context.Context, *session, *ui) (outcome, error)) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	u := a.newUI()
	out, err := do(ctx, s, u)
	u.progress.end()
	if err != nil {
		f := *failureOf(err)
		if f.out == nil {
			f.out = &out
		}
		return &f
	}
	if f := a.format(); f == formatTable || f == formatWide {
		return nil // the ui has said it
	}
	name := string(out.Release)
	if name == "" {
		name = string(out.Active)
	}
	return a.print(out, nil, name)
}
