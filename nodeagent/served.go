package nodeagent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"relman/cluster"
)

const servedFile = "serving.json"

// served is how the site is served, as etcd said it last: a node that starts
// without etcd honours the pins of its visitors. It holds a secret, and nobody
// but the agent can read it.
type served struct {
	Serving cluster.Serving `json:"serving"`
	Secret  []byte          `json:"secret"`
}

func (s served) equal(o served) bool {
	return s.Serving == o.Serving && bytes.Equal(s.Secret, o.Secret)
}

// readServed is nil where none was written yet.
func readServed(root *os.Root) (*served, error) {
	raw, err := root.ReadFile(servedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s served
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil {
		err = s.Serving.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", servedFile, err)
	}
	return &s, nil
}

func (s served) write(root *os.Root) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := writeDurablyAs(root, servedFile, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", servedFile, err)
	}
	return nil
}

// recall serves as the site was served before the restart.
func (s *site) recall() {
	was, err := readServed(s.disk.root)
	if err != nil {
		s.log.Error("how the site is served is not known until etcd is reached", "error", err)
	}
	if was != nil {
		s.remembered = *was
		s.front.Serve(was.Serving, was.Secret)
	}
}

// remember writes down how the site is served, if that has changed.
func (s *site) remember(v cluster.NodeView) error {
	now := served{v.Serving.Value, v.Secret}
	if !v.Serving.Exists() || v.Serving.Value.Validate() != nil || now.equal(s.remembered) {
		return nil
	}
	if err := now.write(s.disk.root); err != nil {
		return err
	}
	s.remembered = now
	return nil
}
