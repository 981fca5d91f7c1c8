#!/bin/bash
# Starts a one-node cluster in its own network, mount and PID namespaces and returns when the node is Ready.
# Needs root, build.sh's programs and the packages that ../kit/prerequisites.py names. Ended by down.sh.
set -euo pipefail
cd "$(dirname "$0")"
. ./env.sh
export GLM_E2E_CACHE=$CACHE GLM_E2E_RUN=$RUN # for the scripts called from here
[ ! -e "$STATE/pid" ] || { echo "up.sh: $STATE is in use: run down.sh first" >&2; exit 1; }
mkdir -p "$STATE"/{run,log,kubelet,cni,cni.d,etcd} /var/lib/kubelet /var/lib/cni
./pki.sh
if [ ! -e "$BIN/pause.tar" ]; then
  buildah bud --quiet --isolation chroot --file pause/Dockerfile --tag localhost/pause:1 "$BIN"
  buildah push --quiet localhost/pause:1 "docker-archive:$BIN/pause.tar:localhost/pause:1"
fi

# until_ok SECONDS COMMAND...: tries COMMAND until it succeeds.
until_ok() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "up.sh: gave up on: $*; see $STATE/log" >&2; exit 1; }
    sleep 0.2
  done
}

# Unpacked images outlive the cluster, for the next one. Only one cluster at a time can have that store; the
# lock is inherited by the cluster's processes, so it ends with them. Another cluster starts with an empty store.
store=$CACHE/containerd
exec 8>"$store.lock"
flock --nonblock 8 || store=$STATE/containerd
mkdir -p "$store"
./containerd.toml.sh "$store" >"$STATE/containerd.toml"
./clean-store.sh >>"$STATE/log/clean-store.log" 2>&1

cat >"$STATE/cni.d/pods.conflist" <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
cat >"$STATE/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/pki/ca.crt}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$STATE/run/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP          # apart from other clusters of this machine
failCgroupV1: false           # the default, true, refuses to start on such a machine
failSwapOn: false
oomScoreAdj: 0                # a lower one needs CAP_SYS_RESOURCE
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: ""
volumePluginDir: $STATE/kubelet/flexvolume
imageGCHighThresholdPercent: 100 # an image once removed can't be pulled again
evictionHard: {memory.available: 200Mi, nodefs.available: 200Mi, imagefs.available: 200Mi}
END
cat >"$STATE/kube-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $STATE/pki/kube-proxy.kubeconfig}
mode: nftables
clusterCIDR: $POD_CIDR
oomScoreAdj: 0
conntrack: {maxPerCore: 0} # its maximum can be set in the first network namespace only
END
cat >"$STATE/Corefile" <<END
.:53 {
  errors
  health :8080
  ready :8181
  kubernetes cluster.local 10.in-addr.arpa {
    kubeconfig $STATE/pki/coredns.kubeconfig
  }
  cache 5
}
END

setsid unshare --net --mount --pid --fork --kill-child --mount-proc ./node.sh \
  </dev/null >>"$STATE/log/node.log" 2>&1 &
until_ok 5 pgrep -P $!
pgrep -P $! >"$STATE/pid" # node.sh, as this side numbers it
exec 8>&-
until_ok 30 ctr version
ctr images import "$BIN/pause.tar" >/dev/null
until_ok 60 ./enter kubectl get --raw /readyz
cat addons.yaml ${METRICS:+metrics.yaml} | sed "s/NODE_IP/$NODE_IP/; s/DNS_IP/$DNS_IP/" |
  ./enter kubectl apply --server-side -f - >/dev/null
until_ok 60 ./enter kubectl wait --for=condition=Ready "node/$NODE" --timeout=1s
# The kubelet would copy it from capacity to allocatable, ten seconds later.
./enter kubectl patch node "$NODE" --subresource=status --type=merge \
  -p "{\"status\":{\"capacity\":{\"nvidia.com/gpu\":\"$GPUS\"},\"allocatable\":{\"nvidia.com/gpu\":\"$GPUS\"}}}" >/dev/null
until_ok 30 ./enter kubectl -n default get serviceaccount default
[ -z "$METRICS" ] || until_ok 60 ./enter kubectl top node
echo "cluster up after $SECONDS s; KUBECONFIG=$KUBECONFIG"
