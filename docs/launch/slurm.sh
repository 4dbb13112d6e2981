#!/usr/bin/env bash
# One run on several nodes under Slurm. It saves and requeues itself before its time limit and on
# preemption, and continues from the last checkpoint when it starts again:
#
#   sbatch docs/launch/slurm.sh recipe.yaml --runs /shared/runs
#
# Options of sbatch on the command line replace those below (sbatch --nodes 4 ...).
#SBATCH --job-name=lingraft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@600
set -euo pipefail

# A folder that all nodes share: the Hub's files are downloaded once, by the first process.
export HF_HOME=${HF_HOME:-$HOME/.cache/huggingface}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# torch meets here: the first node, and a port that other jobs on that node do not use.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT

# The batch shell gets SIGTERM before the time limit (--signal). The processes then save and exit.
stopped=false
trap 'stopped=true; scancel --signal=TERM "$SLURM_JOB_ID"' TERM

# One task per GPU, without torchrun: a signal reaches each process directly, and srun returns their
# exit code. torchrun would kill its processes 30 seconds after the signal. Of the others, a stop is
# no failure: the first process saves, and its exit code tells why the run ended.
result=$(mktemp)
{
  status=0
  srun --kill-on-bad-exit=1 bash -c '
    export WORLD_SIZE=$SLURM_NTASKS RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
    trap : TERM
    status=0
    lingraft adapt "$@" || status=$?
    if [ "$RANK" != 0 ] && { [ "$status" = 130 ] || [ "$status" = 143 ]; }; then status=0; fi
    exit "$status"' lingraft "$@" || status=$?
  echo "$status" >"$result"
} &
# The status is read from a file, because a trap interrupts `wait`.
until [ -s "$result" ]; do wait "$!" || true; done
status=$(cat "$result")

# 130 without a signal to this shell: a preemption, of which Slurm tells the processes only. Slurm
# does not requeue a job that has ended by itself. The bound is for a failure that looks like one.
[ "$status" = 130 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ] && stopped=true
if $stopped && [ "$status" != 0 ]; then
  trap - TERM # the requeue ends this shell
  echo "stopped after attempt $((${SLURM_RESTART_COUNT:-0} + 1)); requeued"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
