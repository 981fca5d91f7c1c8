#!/bin/bash
# PID 1 of the cluster's own network, mount and PID namespaces (see up.sh): lays
# out the network and the usual paths, then keeps every daemon running.
# Killing it ends the cluster, pods included.
set -euo pipefail
cd "$(dirname "$0")"
. ./env.sh
ulimit -n "$(ulimit -Hn)"

# Mounts propagate to containers, and the fixed paths of kubelet, CNI and
# containerd lead into $STATE, so that nothing stays behind on the machine.
mount --make-rshared /
for d in run:/run log:/var/log kubelet:/var/lib/kubelet cni:/var/lib/cni; do
  mount --bind "$STATE/${d%%:*}" "${d#*:}"
done
mount --make-rshared /var/lib/kubelet

# The kubelet sets these for the whole machine unless it reads what it wants.
for s in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
  file=$STATE/sysctl-$(basename "${s%=*}")
  echo "${s#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${s%=*}"
done

ip link set lo up
ip link add node0 type veth peer name node0-peer # the kernel has no dummy device
ip addr add "$NODE_IP/32" dev node0
ip link set node0 up
ip link set node0-peer up
ip route add "$SERVICE_CIDR" dev node0 # looked up before kube-proxy's rules apply
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1

for controller in /sys/fs/cgroup/*/; do # the kubelet wants its root made
  mkdir -p "$controller$CGROUP"
done

# keep NAME COMMAND...: runs COMMAND for ever; its PID in here is in /run/NAME.pid. See daemon.sh.
keep() {
  local name=$1
  shift
  while :; do
    while [ -e "/run/$name.stopped" ]; do sleep 0.2; done
    "$@" >>"$STATE/log/$name.log" 2>&1 &
    echo $! >"/run/$name.pid"
    wait $! || true
    echo "$(date +%T) $name ended" >>"$STATE/log/node.log"
    sleep 1
  done
}
pki=$STATE/pki

keep etcd etcd --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn &
keep kube-apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 \
  --advertise-address "$NODE_IP" --secure-port 6443 --allow-privileged \
  --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
  --client-ca-file "$pki/ca.crt" \
  --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
  --kubelet-preferred-address-types InternalIP \
  --kubelet-client-certificate "$pki/admin.crt" --kubelet-client-key "$pki/admin.key" \
  --proxy-client-cert-file "$pki/front-proxy.crt" --proxy-client-key-file "$pki/front-proxy.key" \
  --requestheader-client-ca-file "$pki/ca.crt" --requestheader-allowed-names front-proxy \
  --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
  --requestheader-extra-headers-prefix X-Remote-Extra- \
  --service-account-issuer https://kubernetes.default.svc.cluster.local \
  --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
  --service-cluster-ip-range "$SERVICE_CIDR" &
keep kube-controller-manager kube-controller-manager --leader-elect=false \
  --kube-api-qps 200 --kube-api-burst 400 --flex-volume-plugin-dir "$STATE/kubelet/flexvolume" \
  --kubeconfig "$pki/controller-manager.kubeconfig" --use-service-account-credentials \
  --authentication-kubeconfig "$pki/controller-manager.kubeconfig" \
  --authorization-kubeconfig "$pki/controller-manager.kubeconfig" \
  --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
  --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" &
keep kube-scheduler kube-scheduler --leader-elect=false --kube-api-qps 200 --kube-api-burst 400 \
  --kubeconfig "$pki/scheduler.kubeconfig" \
  --authentication-kubeconfig "$pki/scheduler.kubeconfig" \
  --authorization-kubeconfig "$pki/scheduler.kubeconfig" &
keep containerd containerd --config "$STATE/containerd.toml" &
keep kubelet kubelet --config "$STATE/kubelet.yaml" --kubeconfig "$pki/kubelet.kubeconfig" \
  --hostname-override "$NODE" --node-ip "$NODE_IP" &
keep kube-proxy kube-proxy --config "$STATE/kube-proxy.yaml" --hostname-override "$NODE" &
keep coredns coredns -conf "$STATE/Corefile" &
keep kwok kwok --config "$BIN/kwok.yaml" --kubeconfig "$pki/admin.kubeconfig" \
  --manage-nodes-with-annotation-selector kwok.x-k8s.io/node=fake --node-lease-duration-seconds 40 &
if [ -n "$METRICS" ]; then
  keep metrics-server metrics-server --secure-port 4443 --cert-dir "$STATE/run" --kubelet-insecure-tls \
    --kubelet-preferred-address-types InternalIP --metric-resolution 15s \
    --kubeconfig "$pki/admin.kubeconfig" --authentication-kubeconfig "$pki/admin.kubeconfig" \
    --authorization-kubeconfig "$pki/admin.kubeconfig" &
fi
wait
