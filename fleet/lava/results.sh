#!/bin/sh
# From KTAP on stdin to LAVA's test cases.
set -eu
sed -n 's/^\(not ok\|ok\) [0-9][0-9]* \([A-Z0-9-]*\)\(.*\)$/\1:\2:\3/p' |
  while IFS=: read -r word rule rest; do
    case $word:$rest in
      "not ok":*) result=fail ;;
      ok:*"# SKIP"*) result=skip ;;
      *) result=pass ;;
    esac
    lava-test-case "$rule" --result "$result"
  done
