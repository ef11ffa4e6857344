package objectstore

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
)

// URL says where a store is, without credentials:
//
//	s3://bucket/prefix?endpoint=https://s3.example.org&region=eu-1&path-style=true
//
// Without an endpoint it is Amazon's.
type URL struct {
	Bucket    string
	Prefix    string // "" or with a final slash
	Endpoint  string // host and port
	Plain     bool   // http instead of https
	Region    string
	PathStyle bool
}

const defaultEndpoint = "s3.amazonaws.com"

// ParseURL reads a store's URL.
func ParseURL(s string) (URL, error) {
	// No error repeats what could be a secret: a URL with an "@" may hold one
	// anywhere, so it is not even parsed.
	if strings.Contains(s, "@") {
		return URL{}, errors.New("store: credentials do not belong in its URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (a real @ is %40)")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.Port() != "" {
		return URL{}, fmt.Errorf("store %q: it looks like s3://bucket/prefix?endpoint=https://host", s)
	}
	out := URL{Bucket: u.Host, Endpoint: defaultEndpoint}
	if p := strings.Trim(u.Path, "/"); p != "" {
		out.Prefix = p + "/"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return URL{}, fmt.Errorf("store s3://%s: what follows the ? cannot be read", u.Host)
	}
	for name, values := range query {
		if err := out.set(name, values[len(values)-1]); err != nil {
			return URL{}, fmt.Errorf("store s3://%s: %w", u.Host, err)
		}
	}
	return out, nil
}

func (u *URL) set(name, value string) error {
	switch name {
	case "endpoint":
		e, err := url.Parse(value)
		if err != nil || e.User != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || strings.Trim(e.Path, "/") != "" || e.RawQuery != "" {
			if strings.Contains(value, "@") {
				return errors.New("endpoint: credentials do not belong in its URL")
			}
			return fmt.Errorf("endpoint %q: it looks like https://host:port", value)
		}
		u.Endpoint, u.Plain = e.Host, e.Scheme == "http"
	case "region":
		u.Region = value
	case "path-style":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("path-style %q: true or false", value)
		}
		u.PathStyle = b
	default:
		return fmt.Errorf("unknown parameter %q (endpoint, region, path-style)", name)
	}
	return nil
}

// String is the URL as ParseURL reads it.
func (u URL) String() string {
	q := url.Values{}
	if u.Endpoint != defaultEndpoint || u.Plain {
		scheme := "https://"
		if u.Plain {
			scheme = "http://"
		}
		q.Set("endpoint", scheme+u.Endpoint)
	}
	if u.Region != "" {
		q.Set("region", u.Region)
	}
	if u.PathStyle {
		q.Set("path-style", "true")
	}
	s := "s3://" + u.Bucket
	if u.Prefix != "" {
		path := url.URL{Path: "/" + strings.TrimSuffix(u.Prefix, "/")}
		s += strings.ReplaceAll(path.EscapedPath(), "@", "%40")
	}
	if len(q) > 0 {
		// As a person would write it: nothing here needs to be escaped.
		s += "?" + strings.NewReplacer("%3A", ":", "%2F", "/").Replace(q.Encode())
	}
	return s
}

// Credentials open a store. The zero value means the usual places: the
// environment (AWS_*, MINIO_*), the shared file, the instance's role.
type Credentials struct{ AccessKey, SecretKey string }

// String hides the secret.
func (c Credentials) String() string { return c.AccessKey + ":***" }

// GoString hides the secret.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secret.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }
