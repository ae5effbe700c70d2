#!/bin/sh
# Runs kvmclock N times over the cluster, waits until all have ended, and compares the reports.
# Usage: submit.sh N [option of sbatch ...]
# The exit status is that of `kvmclock compare`: 1 if a host breaks a rule.
set -eu
count=${1:?usage: submit.sh N [option of sbatch ...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
export RESULTS="${RESULTS:-$PWD/kvmclock-results}"
mkdir -p "$RESULTS"
job=$(sbatch --parsable --array="1-$count" "$@" "$here/kvmclock.sbatch")
# afterany: a node that could not run it must not keep the others' reports back.
log=$RESULTS/compare.$job.log
status=0
# --wait gives sbatch the exit status of the job, and the job's is that of its last command.
sbatch --parsable --wait --job-name=kvmclock-compare --dependency="afterany:$job" "$@" \
  --output="$log" --wrap "'${KVMCLOCK:-kvmclock}' compare '$RESULTS'/*.$job.*.json" || status=$?
cat "$log"
exit $status
