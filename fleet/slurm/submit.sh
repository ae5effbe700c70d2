#!/bin/sh
# Runs kvmclock N times over the cluster, and compares the reports when all have ended.
# Usage: submit.sh N [option of sbatch ...]
set -eu
count=${1:?usage: submit.sh N [option of sbatch ...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
export RESULTS="${RESULTS:-$PWD/kvmclock-results}"
mkdir -p "$RESULTS"
job=$(sbatch --parsable --array="1-$count" "$@" "$here/kvmclock.sbatch")
# afterany: a node that could not run it must not keep the others' reports back.
sbatch --parsable --job-name=kvmclock-compare --dependency="afterany:$job" "$@" \
  --output="$RESULTS/compare.$job.log" \
  --wrap "'${KVMCLOCK:-kvmclock}' compare '$RESULTS'/*.$job.*.json"
