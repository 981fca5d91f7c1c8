#!/bin/bash
# Takes out of containerd's store what the cluster before left in it: its containers, and images that are
# gone from $IMAGES. Runs before the cluster, in a containerd without the CRI plugin, which would revive them.
set -euo pipefail
cd "$(dirname "$0")"
. ./env.sh
store=$(sed -n 's/^root = "\(.*\)"/\1/p' "$STATE/containerd.toml")
[ -e "$store/io.containerd.metadata.v1.bolt/meta.db" ] || exit 0
{
  echo "state = \"$STATE/run/clean\""
  ./containerd.toml.sh "$store" io.containerd.grpc.v1.cri
} >"$STATE/clean-store.toml"
containerd --config "$STATE/clean-store.toml" 8>&- &
containerd=$!
trap 'kill $containerd && wait $containerd || true' EXIT
for _ in {1..100}; do
  ctr version >/dev/null 2>&1 && break
  sleep 0.1
done
for id in $(ctr containers list --quiet); do ctr containers rm "$id"; done
for id in $(ctr snapshots list | awk '$3 == "Active" { print $1 }'); do ctr snapshots rm "$id" || true; done

kept=" "
while read -r ref _ digest _; do
  index=$IMAGES/$(basename "${ref%:*}")/index.json
  case $ref in
    localhost/pause:1) kept+="$digest " ;;
    sha256:*) ;;
    *) ! grep -qsF "\"${ref##*:}\"" "$index" || kept+="$digest " ;;
  esac
done < <(ctr images list | tail -n +2)
while read -r ref _ digest _; do
  [[ $kept == *" $digest "* ]] || ctr images rm --sync "$ref"
done < <(ctr images list | tail -n +2)
