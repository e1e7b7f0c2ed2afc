#!/usr/bin/env bash
# A render on Slurm: Ray on every node of the allocation, the driver on the first.
#   sbatch examples/cluster/slurm.sh spec.yaml
# Submit the same line again to go on, after a time limit as after a node failure. Explained in
# docs/how-to/cluster.md; made for Ray 2.60.0 (see constraints.txt).
#SBATCH --job-name=lossatlas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=4
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --output=lossatlas-%j.log
set -euo pipefail

SPEC=$(realpath "${1:?usage: sbatch slurm.sh SPEC [lossatlas options]}")
shift
# The environment with lossatlas, on a file system that all nodes see.
VENV=${LOSSATLAS_VENV:-$HOME/lossatlas/.venv}
export PATH="$VENV/bin:$PATH"

# Every node reads the same token; nobody else may.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"
if [[ ! -s $RAY_AUTH_TOKEN_PATH ]]; then
    (umask 077 && ray get-auth-token --generate > /dev/null)
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"

export RAY_USAGE_STATS_ENABLED=0
# Nodes that boot slowly get five minutes instead of half of one.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | awk 'NR == 1')
IP=$(getent ahostsv4 "$HEAD" | awk 'NR == 1 { print $1 }')
# Two jobs of one user must not meet on a port.
PORT=$((20000 + SLURM_JOB_ID % 20000))

# One task a node: each finds out by the address whether it is the head. The driver's exit code is
# the job's: 3 means that tiles were quarantined.
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=0 \
    ray symmetric-run --address "$IP:$PORT" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats \
    -- lossatlas render "$SPEC" --address "$IP:$PORT" --log json "$@"
