#!/usr/bin/env bash
# One run over many hosts by SLURM: a task per node, which has all GPUs of it.
#
#   sbatch experiments/launch/slurm.sh --config=configs/mnist.py --workdir=/shared/runs/mnist
#
# --workdir and this folder must be on a file system that all nodes share. JAX finds the other
# tasks from SLURM's variables. When a node is lost, every task ends with exit code 2, and the job
# is put back in the queue, to go on from the last checkpoint.
#SBATCH --job-name=regjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# JAX gives a task under SLURM one GPU by default; these are all.
JAX_LOCAL_DEVICE_IDS="$(seq -s, 0 $((${SLURM_GPUS_PER_NODE:-8} - 1)))"
export JAX_LOCAL_DEVICE_IDS

srun --kill-on-bad-exit=0 regjax train --coordinator=auto "$@" || {
  code=$?
  # A job that failed three times is bad input, not a lost node.
  if [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
  exit "$code"
}
