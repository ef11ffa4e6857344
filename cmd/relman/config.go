package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// config is all that can be configured: the keys of relman.yaml, the flags and,
// with RELMAN_ before them, the environment variables. The tags are the keys.
type config struct {
	Site         string        `mapstructure:"site"`
	Endpoints    []string      `mapstructure:"endpoints"` // of etcd; empty: see endpoints()
	CACert       string        `mapstructure:"cacert"`
	Cert         string        `mapstructure:"cert"`
	Key          string        `mapstructure:"key"`
	User         string        `mapstructure:"user"` // of etcd, for clusters that use passwords
	PasswordFile string        `mapstructure:"password-file"`
	Store        string        `mapstructure:"store"` // empty: the one that the cluster names
	Output       string        `mapstructure:"output"`
	Quiet        bool          `mapstructure:"quiet"`
	Verbose      bool          `mapstructure:"verbose"`
	NoColor      bool          `mapstructure:"no-color"`
	Yes          bool          `mapstructure:"yes"`
	Wait         bool          `mapstructure:"wait"`
	Timeout      time.Duration `mapstructure:"timeout"`

	// The flags of the commands that run for long, by name; see adopt.
	Manager map[string]any `mapstructure:"manager"`
	Agent   map[string]any `mapstructure:"agent"`
	Dev     map[string]any `mapstructure:"dev"`
}

// defaultConfig is what holds where nobody says anything else.
func defaultConfig() config {
	return config{Output: string(formatTable), Wait: true}
}

// aliases are environment variables that are understood beside RELMAN_*, so
// that one shell drives etcdctl and relman.
func aliases() map[string]string {
	return map[string]string{
		"endpoints": "ETCDCTL_ENDPOINTS",
		"cacert":    "ETCDCTL_CACERT",
		"cert":      "ETCDCTL_CERT",
		"key":       "ETCDCTL_KEY",
		"user":      "ETCDCTL_USER",
	}
}

// settings reads the configuration: flag, else environment, else file, else
// default.
type settings struct {
	v       *viper.Viper
	known   []string               // keys, sorted
	flags   map[string]*pflag.Flag // by key
	adopted []string               // keys whose flags are told what is configured
	file    string                 // "": none
}

func newSettings() *settings {
	s := &settings{v: viper.New(), flags: map[string]*pflag.Flag{}}
	s.v.SetEnvPrefix("RELMAN")
	s.v.SetEnvKeyReplacer(envReplacer())
	s.v.AutomaticEnv()
	c := reflect.ValueOf(defaultConfig())
	for i := range c.NumField() {
		if c.Field(i).Kind() != reflect.Map {
			s.register(c.Type().Field(i).Tag.Get("mapstructure"), c.Field(i).Interface())
		}
	}
	return s
}

// register makes a key known.
func (s *settings) register(key string, value any) {
	s.v.SetDefault(key, value)
	_ = s.v.BindEnv(append([]string{key}, envNames(key)...)...) // fails without a key only
	s.known = append(s.known, key)
	slices.Sort(s.known)
}

// bind makes flags decide about the keys that are called as they are.
func (s *settings) bind(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(s.known, f.Name) {
			s.flags[f.Name] = f
			_ = s.v.BindPFlag(f.Name, f) // fails without a flag only
		}
	})
}

// adopt makes each flag of a command a key, called command.flag. Such a command
// reads its flags; apply sets those that are configured elsewhere.
func (s *settings) adopt(command string, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		key := command + "." + f.Name
		s.register(key, flagDefault(f))
		s.flags[key] = f
		s.adopted = append(s.adopted, key)
	})
}

func flagDefault(f *pflag.Flag) any {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return f.DefValue
}

// apply sets the adopted flags of a command that were not given.
func (s *settings) apply(command string) error {
	for _, key := range s.adopted {
		f := s.flags[key]
		from, _ := s.origin(key)
		if !strings.HasPrefix(key, command+".") || from == originFlag || from == originDefault {
			continue
		}
		value := s.v.GetString(key)
		if _, list := f.Value.(pflag.SliceValue); list {
			value = strings.Join(s.v.GetStringSlice(key), ",")
		}
		if err := f.Value.Set(value); err != nil {
			return configError("%s: %v", key, err)
		}
	}
	return nil
}

// Where a value comes from.
const (
	originFlag    = "flag"
	originEnv     = "environment"
	originFile    = "file"
	originDefault = "default"
)

// origin says where a key's value comes from, and the name that it has there.
func (s *settings) origin(key string) (from, name string) {
	if f := s.flags[key]; f != nil && f.Changed {
		return originFlag, "--" + f.Name
	}
	for _, name := range envNames(key) {
		if os.Getenv(name) != "" {
			return originEnv, name
		}
	}
	if s.v.InConfig(key) {
		return originFile, s.file
	}
	return originDefault, ""
}

// envNames are the environment variables that a key is read from.
func envNames(key string) []string {
	names := []string{"RELMAN_" + strings.ToUpper(envReplacer().Replace(key))}
	if alias := aliases()[key]; alias != "" {
		names = append(names, alias)
	}
	return names
}

func envReplacer() *strings.Replacer { return strings.NewReplacer(".", "_", "-", "_") }

// load reads all of it. An unknown key in the file is an error, so that a typing
// error does not go unnoticed.
func (s *settings) load() (config, error) {
	if err := s.readFile(); err != nil {
		return config{}, err
	}
	var c config
	if err := s.v.UnmarshalExact(&c); err != nil {
		return c, configError("%v", oneLine(err.Error()))
	}
	c.NoColor = c.NoColor || os.Getenv("NO_COLOR") != ""
	if c.Timeout < 0 {
		return c, configError("timeout is %v, it cannot be negative", c.Timeout)
	}
	if _, err := parseFormat(c.Output); err != nil {
		return c, err
	}
	return c, nil
}

// readFile reads the first relman.yaml that there is.
func (s *settings) readFile() error {
	for _, path := range configPaths() {
		_, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		s.file = path
		s.v.SetConfigFile(path)
		s.v.SetConfigType("yaml")
		if err == nil {
			err = s.v.ReadInConfig()
		}
		if err != nil {
			return configError("%s: %s", path, oneLine(err.Error()))
		}
		break
	}
	var unknown []string
	for _, key := range s.v.AllKeys() {
		if !slices.Contains(s.known, key) {
			unknown = append(unknown, key)
		}
	}
	if slices.Sort(unknown); len(unknown) > 0 {
		return configError("%s: unknown key %s", s.file, strings.Join(unknown, ", ")).withHint("`relman config show` lists the keys")
	}
	return nil
}

// configPaths are where relman.yaml is looked for, in this order.
func configPaths() []string {
	paths := []string{"/etc/relman/relman.yaml"}
	if dir, err := os.UserConfigDir(); err == nil { // $XDG_CONFIG_HOME, or ~/.config
		paths = slices.Insert(paths, 0, filepath.Join(dir, "relman", "relman.yaml"))
	}
	return paths
}

func configError(format string, args ...any) *failure {
	return &failure{code: exitUsage, class: classConfig, text: "configuration: " + fmt.Sprintf(format, args...)}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
