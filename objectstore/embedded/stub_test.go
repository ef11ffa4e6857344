//go:build noembed

package embedded

import (
	"errors"
	"testing"
)

func TestStart_isNotBuilt(t *testing.T) {
	if _, err := Start(t.Context(), "relman", Config{}); !errors.Is(err, ErrNotBuilt) {
		t.Error(err)
	}
}
