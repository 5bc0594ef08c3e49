#!/usr/bin/env bash
# One run over all hosts of a Cloud TPU slice.
#
#   TPU=my-tpu ZONE=us-central2-b bash experiments/launch/cloud_tpu.sh \
#     --config=configs/mnist.py --workdir=/shared/runs/mnist
#
# Every worker has this repository in ~/regjax, and --workdir on a file system that all of them
# mount (Filestore, or a bucket by gcsfuse). JAX finds the other workers from the TPU's metadata.
# When a worker is lost the others end with exit code 2; the same command goes on from the last
# checkpoint.
set -euo pipefail
: "${TPU:?the name of the TPU}" "${ZONE:?its zone}"

workers() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

workers "cd regjax && python3 -m pip install --quiet -e '.[tpu]'"
workers "cd regjax && python3 -m regjax train --coordinator=auto $(printf '%q ' "$@")"
