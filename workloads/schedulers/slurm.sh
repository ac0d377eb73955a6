#!/bin/sh
# The suite as a Slurm array: each task measures one shard, on a node that it has for itself.
#
#   sbatch --array=1-4 workloads/schedulers/slurm.sh OUT [mymalloc suite options...]
#   mymalloc report OUT/shard-*/results.json --out OUT/merged        (when all tasks are done)
#
# A task that was cut off (time limit, node failure, requeue) continues where it was.
#SBATCH --job-name=mymalloc
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --time=02:00:00
set -eu
[ $# -ge 1 ] || { echo 'usage: sbatch --array=1-N slurm.sh OUT [options of mymalloc suite]' >&2; exit 2; }
out=$1
shift
shard=$out/shard-$SLURM_ARRAY_TASK_ID
if [ -e "$shard/journal.jsonl" ]; then set -- --resume "$@"; fi
exec "${MYMALLOC:-mymalloc}" suite --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --out "$shard" "$@"
