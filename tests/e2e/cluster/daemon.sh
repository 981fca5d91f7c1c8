#!/bin/bash
# daemon.sh kill|stop|start|hang|resume NAME: does that to one daemon: kube-apiserver, etcd, kubelet, containerd ...
#   kill    kill -9; node.sh starts it again after a second
#   stop    kill -9, and it stays away until `start`
#   hang    SIGSTOP, until `resume`
# The daemon's PID counts only inside the cluster's PID namespace.
set -euo pipefail
. "$(dirname "$0")/env.sh"
name=$2
signal() {
  nsenter --mount --pid --target "$(cat "$STATE/pid")" -- sh -c "kill -$1 \"\$(cat /run/$name.pid)\""
}
case $1 in
  kill) signal KILL || true ;; # it may have ended and be about to start
  stop) touch "$STATE/run/$name.stopped" && (signal KILL || true) ;;
  start) rm "$STATE/run/$name.stopped" ;;
  hang) signal STOP ;;
  resume) signal CONT ;;
  *) sed -n 2p "$0" >&2 && exit 2 ;;
esac
