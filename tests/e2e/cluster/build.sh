#!/bin/bash
# Builds the cluster's programs from Go modules into $BIN, once: its name holds the digest of the sources.
# Needs Go >= 1.26 and whatever module proxy Go is configured for.
set -euo pipefail
cd "$(dirname "$0")"
. ./env.sh
mkdir -p "$CACHE/bin"
exec 9>"$BIN.lock"
flock 9 # two test runs at once: one builds
[ ! -e "$BIN" ] || exit 0

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
flags="-s -w"
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $p.gitVersion=$version -X $p.gitMajor=1 -X $p.gitMinor=$(echo "$version" | cut -d. -f2)"
  flags+=" -X $p.gitTreeState=clean -X $p.gitCommit=none -X $p.buildDate=1970-01-01T00:00:00Z"
done
out=$BIN.partial
rm -rf "$out"
mkdir -p "$out"
export CGO_ENABLED=0
nice -n 15 go build -trimpath -ldflags "$flags" -o "$out/kube" .
nice -n 15 go build -trimpath -ldflags "-s -w" -o "$out/" ./coredns ./pause \
  helm.sh/helm/v4/cmd/helm sigs.k8s.io/kwok/cmd/kwok sigs.k8s.io/metrics-server/cmd/metrics-server
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
  ln -s kube "$out/$name"
done
stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage # how fake nodes and pods behave
for f in "$stages"/{node/fast,node/heartbeat-with-lease,pod/fast}/[np]*.yaml; do
  echo ---
  cat "$f"
done >"$out/kwok.yaml"
mv "$out" "$BIN" # whole or not at all
