package nodeagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"relman/release"
)

const stateFile = "state.json"

// state is what a site remembers over restarts. What the buffers hold is said
// by their manifests, and which protocol buffer claims what by etcd: a second
// copy of either could only contradict the first.
type state struct {
	Release release.ID    `json:"release"` // applied last
	Epoch   release.Epoch `json:"epoch"`
	Seq     uint64        `json:"seq"` // the highest sequence number applied
	// Cluster is whose epoch that is, "" where that is not known: of a cluster
	// without a name, or in what an older agent wrote.
	Cluster string `json:"cluster,omitempty"`
}

// readState is the zero state where none was written yet.
func readState(root *os.Root) (state, error) {
	var st state
	raw, err := root.ReadFile(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &st)
	}
	if err != nil {
		return state{}, fmt.Errorf("read %s: %w", stateFile, err)
	}
	return st, nil
}

// ClusterOf is the cluster that the node with this directory belongs to, as its
// sites remember it; "" for none.
func ClusterOf(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "sites", "*", stateFile))
	if err != nil {
		return "", err
	}
	for _, name := range found {
		root, err := os.OpenRoot(filepath.Dir(name))
		if err != nil {
			return "", err
		}
		st, err := readState(root)
		root.Close()
		if err == nil && st.Cluster != "" {
			return st.Cluster, nil
		}
	}
	return "", nil
}

func (st state) write(root *os.Root) error {
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := writeDurably(root, stateFile, append(raw, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", stateFile, err)
	}
	return nil
}
