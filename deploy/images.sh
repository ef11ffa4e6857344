#!/usr/bin/env bash
# Make the images relman, relman-store and relman-etcd from bin/. Nothing is
# fetched: no base image, no registry.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${IMAGE_TAG:-local}
context=$(mktemp -d)
log=$context.log
trap 'rm -rf "$context" "$log"' EXIT
cp bin/relman bin/etcd bin/etcdctl "$context"
mkdir "$context/empty"

for target in relman store etcd; do
	name=relman-$target
	[ "$target" = relman ] && name=relman
	# The classic builder: it is part of the engine, BuildKit's client is not.
	# It complains of its age; that is shown only with a real complaint.
	if ! DOCKER_BUILDKIT=0 docker build --target "$target" --tag "$name:$tag" --file deploy/Dockerfile "$context" >"$log" 2>&1; then
		cat "$log" >&2
		exit 1
	fi
	echo "$name:$tag"
done
