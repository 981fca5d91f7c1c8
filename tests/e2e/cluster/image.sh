#!/bin/bash
# image.sh NAME TAG DOCKERFILE CONTEXT [buildah bud option...]: builds localhost/NAME:TAG without a container engine
# and adds it to the OCI layout $IMAGES/NAME, where the layers that it shares with other tags already are.
# Needs root and buildah; base images are those of base.sh.
set -euo pipefail
. "$(dirname "$0")/env.sh"
name=localhost/$1 reference=localhost/$1:$2 layout=$IMAGES/$1 dockerfile=$3 context=$4
tag=$2
shift 4
certs=/etc/ssl/certs/ca-certificates.crt # so that pip trusts what this machine trusts
volumes=(--volume "$certs:$certs:ro")
uv=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/uv} # what `make dev` fetched need not be fetched again
[ ! -d "$uv" ] || volumes+=(--volume "$uv:/var/cache/uv")

# build NAME [OPTION...]: a name keeps an image's layers from being pruned.
build() {
  local tagged=$1
  shift
  buildah bud --isolation chroot --pull-never --layers --format docker "${volumes[@]}" \
    --file "$dockerfile" --tag "$tagged" "$@" "$context"
}
mkdir -p "$IMAGES"
build "$name-code" --target code "$@" # the stage that compiles is no part of the image, so it needs the name
build "$reference" "$@"
buildah push --quiet --format oci --disable-compression "$reference" "oci:$layout:$tag"
for old in $(buildah images --format '{{.Name}}:{{.Tag}}' | grep -F "$name:"); do
  [ "$old" = "$reference" ] || buildah rmi "$old" >/dev/null
done
buildah rm --all >/dev/null    # working containers of failed builds
buildah rmi --prune >/dev/null # layers of failed and of older builds
