#!/bin/sh
# The suite spread over machines with GNU parallel: one shard each, merged at the end.
#
#   workloads/schedulers/parallel.sh OUT SHARDS [options of mymalloc suite...]
#
#   PARALLEL_OPTIONS='--sshlogin a,b,c --workdir . --jobs 1'   on machines that share this folder
#   PARALLEL_OPTIONS='--jobs 1'                                on this one, in turn (the default)
#
# Never two shards on one machine at once: they would disturb each other's times.
set -eu
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$1 shards=$2
shift 2
mymalloc=${MYMALLOC:-mymalloc}
mkdir -p "$out"
quoted() { printf "'%s' " "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
options=
for word in "$@"; do options="$options$(quoted "$word")"; done
folder=$(quoted "$out" | sed 's/ $//')
# A shard that was interrupted has a journal and is resumed; --resume-failed runs those again that
# have not succeeded, and no others.
seq "$shards" | parallel ${PARALLEL_OPTIONS:---jobs 1} --joblog "$out/jobs" --resume-failed --tag \
    "shard=$folder/shard-{}; resume=; if [ -e \"\$shard/journal.jsonl\" ]; then resume=--resume; fi;
    $(quoted "$mymalloc") suite --shard {}/$shards --out \"\$shard\" \$resume $options"
set --
for shard in $(seq "$shards"); do set -- "$@" "$out/shard-$shard/results.json"; done
"$mymalloc" report "$@" --out "$out/merged"
