// Package embedded runs an S3 server on a directory: the default of relman dev,
// and of small clusters that bring no object store of their own.
package embedded
