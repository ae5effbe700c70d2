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
# On a busy host lines get lost on their way here; the exit status is of all tests.
total=$(sed -n 's/.* Test run with \([0-9]*\) tests\{0,1\} .*/\1/p' "$log" | tail -1)
said=$(count .)
lost=
if [ "${total:-$said}" -gt "$said" ]; then lost=", $((total - said)) of $total without a line"; fi
echo "$(count 'passed after') passed, $(count 'failed after') failed, $(count 'skipped') skipped$lost"
exit "${status:-1}"
