#!/bin/sh
# Runs `swift test` and adds the line that it lacks: how many tests passed, failed and were skipped.
set -u
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
{ ${SWIFT:-swift} test "$@" 2>&1; echo "exit status $?"; } | tee "$log" | grep -v '^exit status '
status=$(sed -n 's/^exit status //p' "$log")
results=$(grep -E ' (Test|Suite) .* (passed after|failed after|skipped)' "$log" | grep -vE ' Test run with | Suite .* (passed|failed) after')
count() { printf '%s\n' "$results" | grep -cE "$1"; }
# Why, each reason once.
printf '%s\n' "$results" | sed -n 's/.* skipped: */skipped: /p' | sort | uniq -c | sort -rn
echo "$(count 'passed after') passed, $(count 'failed after') failed, $(count 'skipped') skipped"
exit "${status:-1}"
