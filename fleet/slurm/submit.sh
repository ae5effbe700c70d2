#!/bin/sh
# Runs kvmclock on N different nodes of the cluster, waits until all have ended, and compares the reports.
# Usage: submit.sh N [option of sbatch ...]
# The exit status is the job's: that of `kvmclock compare`, which is 1 if a host breaks a rule, or 69 if a node left no report.
set -eu
count=${1:?usage: submit.sh N [option of sbatch ...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
export RESULTS="${RESULTS:-$PWD/kvmclock-results}"
mkdir -p "$RESULTS"
status=0
job=$(sbatch --parsable --wait --nodes="$count" --output="$RESULTS/kvmclock-%j.log" "$@" "$here/kvmclock.sbatch") ||
  status=$?
cat "$RESULTS/kvmclock-$job.log"
exit $status
