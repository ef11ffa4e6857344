package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"relman/objectstore"
)

// devState is the directory of one `relman dev`: etcd's data, the objects and
// the nodes' directories. One process at a time has it.
type devState struct {
	dir       string
	temporary bool // it goes when the process ends
	lock      *os.File
}

// openDevState takes a state directory; "" makes a temporary one.
func openDevState(dir string) (*devState, error) {
	s := &devState{temporary: dir == ""}
	var err error
	if s.temporary {
		s.dir, err = os.MkdirTemp("", "relman-dev-")
	} else if s.dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(s.dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if s.lock, err = lockFile(filepath.Join(s.dir, "lock")); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errors.New("another relman dev runs on it" + s.holder())
		}
		return nil, fmt.Errorf("state directory %s: %w", s.dir, err)
	}
	err = s.lock.Truncate(0)
	if err == nil {
		_, err = s.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state directory %s: %w", s.dir, err), s.close())
	}
	return s, nil
}

// lockFile opens a file and locks it; the lock ends with the process, however
// that ends. A file that is locked already is syscall.EWOULDBLOCK.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(&os.PathError{Op: "lock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}

// holder names the process that has the directory.
func (s *devState) holder() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "lock"))
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}

func (s *devState) close() error {
	if s.temporary {
		return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
	}
	return s.lock.Close()
}

// path is a path inside of the directory.
func (s *devState) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// credentials are those of the store, made at random once.
func (s *devState) credentials() (objectstore.Credentials, error) {
	return loadCredentials(s.path("credentials.json"))
}

// loadCredentials reads credentials, or makes them and keeps them for the
// owner's eyes alone.
func loadCredentials(path string) (objectstore.Credentials, error) {
	var kept struct {
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		kept.AccessKey, kept.SecretKey = "relman"+rand.Text()[:10], rand.Text()
		if raw, err = json.Marshal(kept); err == nil {
			err = renameio.WriteFile(path, append(raw, '\n'), 0o600)
		}
	} else if err == nil {
		err = json.Unmarshal(raw, &kept)
	}
	if err == nil && (kept.AccessKey == "" || kept.SecretKey == "") {
		err = errors.New("it does not hold credentials")
	}
	if err != nil {
		return objectstore.Credentials{}, fmt.Errorf("credentials in %s: %w", path, err)
	}
	return objectstore.Credentials{AccessKey: kept.AccessKey, SecretKey: kept.SecretKey}, nil
}
