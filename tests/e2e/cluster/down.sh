#!/bin/bash
# Ends the cluster and removes its state. Killing node.sh, PID 1 of the cluster's PID namespace, ends every
# process and mount of it.
. "$(dirname "$0")/env.sh"
pid=$(cat "$STATE/pid" 2>/dev/null)
if [ -n "$pid" ] && grep -q node.sh "/proc/$pid/cmdline" 2>/dev/null; then # not some later process
  kill -9 "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
fi
find /sys/fs/cgroup -mindepth 1 -depth -type d -path "*/$CGROUP*" -exec rmdir {} + 2>/dev/null
rm -rf "$STATE"
rmdir "$CACHE/run" /var/lib/kubelet /var/lib/cni 2>/dev/null # where up.sh made them, unless others use them
true
