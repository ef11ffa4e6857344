package siterules

import (
	"strings"
	"testing"
)

func TestPolicy_Validate(t *testing.T) {
	for _, s := range []TrailingSlash{"", Auto, Always, Never, Ignore} {
		if err := (Policy{TrailingSlash: s}).Validate(); err != nil {
			t.Error(err)
		}
	}
	if err := (Policy{TrailingSlash: "sometimes"}).Validate(); err == nil || !strings.Contains(err.Error(), `"sometimes"`) {
		t.Errorf("sometimes: %v", err)
	}
}
