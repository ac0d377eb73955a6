#!/bin/sh
# The suite spread over machines with GNU parallel: one shard each, merged at the end.
#
#   workloads/schedulers/parallel.sh OUT SHARDS [options of mymalloc suite...]
#
#   PARALLEL_OPTIONS='--sshlogin a,b,c --workdir . --jobs 1'   on machines that share this folder
#   PARALLEL_OPTIONS='--jobs 1'                                on this one, in turn (the default)
#
# Never two shards on one machine at once: they would disturb each other's times.
# The same command again finishes what was cut off and measures nothing twice. OUT belongs to that
# command: with other options, or another build of the program, choose another OUT.
set -eu
fail() { printf '%s: %s\n' "${0##*/}" "$1" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$1 shards=$2
shift 2
case $shards in '' | 0* | *[!0-9]*) fail "SHARDS: expected a number from 1, found '$shards'" ;; esac
program=$(command -v "${MYMALLOC:-mymalloc}") || fail "${MYMALLOC:-mymalloc}: not found; name the program with MYMALLOC"
command -v parallel >/dev/null || fail 'GNU parallel is not installed'
quoted() { printf "'%s' " "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
options=
for word in "$@"; do options="$options$(quoted "$word")"; done
folder=$(quoted "$out" | sed 's/ $//')
mkdir -p "$out"
# Which command OUT belongs to. Linked into place whole, so that of two at once one is first.
printf '%s shards, %s %s\n%s\n' "$shards" "$program" "$(sha256sum <"$program")" "$options" >"$out/command.$$"
ln "$out/command.$$" "$out/command" 2>/dev/null || cmp -s "$out/command.$$" "$out/command" || {
    rm "$out/command.$$"
    fail "$out holds a run of another command or build (see $out/command): choose another OUT, or remove it"
}
rm "$out/command.$$"
if [ -e "$out/jobs" ]; then echo "$out: shards that are done are not measured again" >&2; fi
# A shard that was interrupted has a journal and is resumed; --resume-failed runs those again that
# have not succeeded, and no others.
seq "$shards" | parallel ${PARALLEL_OPTIONS:---jobs 1} --joblog "$out/jobs" --resume-failed --tag \
    "shard=$folder/shard-{}; resume=; if [ -e \"\$shard/journal.jsonl\" ]; then resume=--resume; fi;
    $(quoted "$program") suite --shard {}/$shards --out \"\$shard\" \$resume $options"
set --
for shard in $(seq "$shards"); do set -- "$@" "$out/shard-$shard/results.json"; done
"$program" report "$@" --out "$out/merged"
