# shellcheck shell=bash disable=SC2034
# Names, addresses and helpers that the other scripts share.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${GLM_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/glm-e2e}
RUN=${GLM_E2E_RUN:-manual} # names one cluster; several may run side by side
STATE=$CACHE/run/$RUN      # that cluster's files; down.sh removes them
IMAGES=$CACHE/images       # buildah's store, and archives of the images that it built
# Programs are kept by the digest of what they are built from.
BIN=$CACHE/bin/$(cat "$here"/{go.mod,go.sum,main.go,coredns/main.go,pause/main.go,build.sh} | sha256sum | cut -c1-16)
CGROUP=glm-e2e-$RUN
GPUS=${GPUS:-16}            # nvidia.com/gpu that the node says it has
export METRICS=${METRICS:-} # not empty: run metrics-server (kubectl top, HPA)

# All of these exist only in the cluster's own network namespace.
NODE=node0 NODE_IP=10.240.0.1 POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16 API_IP=10.96.0.1 DNS_IP=10.96.0.10

export KUBECONFIG=$STATE/pki/admin.kubeconfig
export KUBECACHEDIR=$STATE/kubectl # not shared with the cluster before or after
export PATH=$BIN:$PATH

buildah() { nice -n 10 buildah --root "$IMAGES/store" --runroot "$IMAGES/run" --storage-driver "${DRIVER:-overlay}" "$@"; }
ctr() { command ctr --address "$STATE/run/containerd.sock" --namespace k8s.io "$@"; }
