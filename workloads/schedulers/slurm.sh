#!/bin/sh
# The suite as a Slurm array: each task measures one shard, on a node that it has for itself.
#
#   sbatch --array=1-4 workloads/schedulers/slurm.sh OUT [mymalloc suite options...]
#   mymalloc report OUT/shard-*/results.json --out OUT/merged        (when all tasks are done)
#
# A task that was requeued (node failure, preemption) continues where it was; on another node that is
# another run, and no ratio spans both. One that met its time limit continues when it is submitted
# again: SHARDS=4 sbatch --array=3 ... with the same options. OUT belongs to one command: with other
# options, or another build of the program, choose another OUT.
#SBATCH --job-name=mymalloc
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --time=02:00:00
set -eu
fail() { printf 'slurm.sh: %s\n' "$1" >&2; exit 2; }
[ $# -ge 1 ] && [ -n "${SLURM_ARRAY_TASK_ID-}" ] || fail 'usage: sbatch --array=1-N slurm.sh OUT [options of mymalloc suite]'
out=$1
shift
shards=${SHARDS:-$SLURM_ARRAY_TASK_COUNT}
program=$(command -v "${MYMALLOC:-mymalloc}") || fail "${MYMALLOC:-mymalloc}: not found; name the program with MYMALLOC"
mkdir -p "$out"
# Which command OUT belongs to. Linked into place whole, so that of two tasks at once one is first.
mine=$out/command.$SLURM_ARRAY_TASK_ID.$$
{
    printf '%s shards, %s %s\n' "$shards" "$program" "$(sha256sum <"$program")"
    for word in "$@"; do printf '%s\n' "$word"; done
} >"$mine"
ln "$mine" "$out/command" 2>/dev/null || cmp -s "$mine" "$out/command" || {
    rm "$mine"
    fail "$out holds a run of another command or build (see $out/command): choose another OUT, or remove it"
}
rm "$mine"
shard=$out/shard-$SLURM_ARRAY_TASK_ID
if [ -e "$shard/journal.jsonl" ]; then set -- --resume "$@"; fi
exec "$program" suite --shard "$SLURM_ARRAY_TASK_ID/$shards" --out "$shard" "$@"
