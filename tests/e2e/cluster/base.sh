#!/bin/bash
# Makes the base image that the Dockerfiles name (`FROM python:3.11-slim-bookworm`) from Debian's packages, once,
# in buildah's store only. Needs root, mmdebstrap and buildah.
set -euo pipefail
. "$(dirname "$0")/env.sh"
mkdir -p "$IMAGES"
tag=docker.io/library/python:3.11-slim-bookworm
made=$IMAGES/base-$(sha256sum <"$0" | cut -c1-16)
exec 9>"$IMAGES/base.lock"
flock 9
[ ! -e "$made" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include=ca-certificates,python3,python3-pip,python3-venv bookworm "$work/root.tar"
cat >"$work/Dockerfile" <<'END'
FROM scratch
ADD root.tar /
# As in the image of that name: `python` exists and pip installs system-wide.
RUN ln -s python3 /usr/bin/python && rm /usr/lib/python3.11/EXTERNALLY-MANAGED
ENV PYTHONUNBUFFERED=1
CMD ["python"]
END
buildah bud --isolation chroot --pull-never --format docker --tag "$tag" "$work"
touch "$made"
