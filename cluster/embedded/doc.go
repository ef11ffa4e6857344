// Package embedded runs an etcd member inside the process: the default of
// relman dev, and of small clusters that bring no etcd of their own.
package embedded
