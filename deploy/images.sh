#!/usr/bin/env bash
# Make the images relman, relman-store and relman-etcd from bin/. Nothing is
# fetched: no base image, no registry.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${IMAGE_TAG:-local}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp bin/relman bin/etcd bin/etcdctl "$context"
mkdir "$context/empty"

for target in relman store etcd; do
	name=relman-$target
	[ "$target" = relman ] && name=relman
	# The classic builder: it is part of the engine, BuildKit's client is not.
	DOCKER_BUILDKIT=0 docker build --quiet --target "$target" --tag "$name:$tag" --file deploy/Dockerfile "$context" >/dev/null
	echo "$name:$tag"
done
