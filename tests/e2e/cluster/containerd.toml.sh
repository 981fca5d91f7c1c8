#!/bin/bash
# containerd.toml.sh STORE [PLUGIN]: prints containerd's configuration with its images in STORE, less one plugin.
. "$(dirname "$0")/env.sh"
cat <<END
version = 2
root = "$1"
oom_score = 0
disabled_plugins = [${2:+"\"$2\""}]
[grpc]
  address = "$STATE/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true # a lower score needs CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni.d"
END
