#!/bin/bash
# image.sh REFERENCE ARCHIVE DOCKERFILE CONTEXT [buildah bud option...]: builds an image without a container
# engine and writes it to ARCHIVE, whole or not at all. Needs root and buildah; base images are those of base.sh.
set -euo pipefail
. "$(dirname "$0")/env.sh"
reference=$1 archive=$2 dockerfile=$3 context=$4
shift 4
certs=/etc/ssl/certs/ca-certificates.crt # so that pip trusts what this machine trusts
mkdir -p "$IMAGES"
buildah bud --isolation chroot --pull-never --layers --format docker \
  --volume "$certs:$certs:ro" "$@" --file "$dockerfile" --tag "$reference" "$context"
rm -f "$archive.partial"
buildah push --quiet "$reference" "docker-archive:$archive.partial:$reference"
mv "$archive.partial" "$archive"
