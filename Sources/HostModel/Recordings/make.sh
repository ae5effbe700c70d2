#!/bin/sh
# Builds saved histories into the program: make.sh FOLDER, which `kvmclock run --history FOLDER` filled. Those of tsc-* but
# tsc-frequency come from a run with --host model, the others from the kernel's own clock with --change-host.
set -eu
cd "$(dirname "$0")"
for scenario in tsc-matching tsc-offset tsc-write tsc-adjust tsc-frequency clocksource-switch slew suspend; do
  history="$1/$scenario.1.kvmclock.jsonl"
  [ -f "$history" ] || continue
  name=$(echo "$scenario" | awk -F- '{ printf "%s", $1; for (i = 2; i <= NF; i++) printf "%s%s", toupper(substr($i, 1, 1)), substr($i, 2) }' | sed 's/^tsc/tsc/')
  file="$scenario.swift"
  {
    echo "// swift-format-ignore-file"
    echo "// Written by make.sh. Do not edit."
    echo
    echo "extension Recording {"
    echo "  static let $name = Recording(text: #\"\"\""
    cat "$history"
    echo "\"\"\"#)"
    echo "}"
  } > "$file"
done
