#!/usr/bin/env bash
# A study whose cells run on the nodes of a Ray cluster, as a job of that cluster:
#
#   RAY_ADDRESS=http://HEAD:8265 docs/launch/ray.sh study.yaml --runs /shared/runs --gpus 1
#
# All nodes see the runs and the store under the same path. A cell whose node is lost is repeated,
# and takes finished stages and the last checkpoint from the store. On Kubernetes, KubeRay starts
# such a cluster; this is then the entrypoint of a RayJob.
set -euo pipefail
exec ray job submit --working-dir . -- \
  lingraft study "$@" --executor ray --ray-address auto
