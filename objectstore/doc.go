// Package objectstore is what relman keeps in S3 and how: the object layout,
// the packs, publishing a build and reading it back.
//
// It promises that bytes which it hands out are the bytes whose digest was
// asked for: everything is checked against the manifest while it is read,
// nothing that the store says is believed. It promises that what it has put is
// complete before it is named by a manifest, and that a killed publisher leaves
// nothing but objects which nobody refers to.
//
// It leaves to others which release is registered or active (package cluster)
// and where the files go on a node (package nodeagent). Only s3.go imports
// minio-go.
package objectstore
