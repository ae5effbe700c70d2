#!/bin/sh
# Fuzzes what reads files and mailboxes: run.sh FUZZER KVMCLOCK RUNS
# The inputs start from recordings of this host, if it has a KVM, and from those in the tree. What was found before
# (corpus/) comes first. An input that ends the fuzzer is left in .build-fuzz/found.
set -eu
fuzzer=$(realpath "$1") kvmclock=$(realpath "$2") runs=$3
here=$(realpath "$(dirname "$0")")
work=.build-fuzz/work
found=.build-fuzz/found
rm -rf "$work" && mkdir -p "$work/seeds" "$work/new" "$found"

# seed KIND FILE: an input of its kind, if it is not too long.
seed() {
  [ "$(wc -c <"$2")" -gt 30000 ] || printf %s "$1" | cat - "$2" >"$work/seeds/$1-$(basename "$2")"
}

if [ -e /dev/kvm ]; then
  "$kvmclock" run --history "$work/histories" --output "$work/run.json" >/dev/null || [ $? -le 2 ]
  "$kvmclock" soak --for 2s GETCLOCK-NONMASTER-FIELDS --checkpoint "$work/soak.json" >/dev/null 2>&1 || [ $? -le 2 ]
fi
for file in "$here"/../Fixtures/*.jsonl "$work"/histories/*.jsonl; do
  [ ! -e "$file" ] || seed h "$file"
done
"$kvmclock" check "$here"/../Fixtures/format-2-replug.kvmclock.jsonl --output "$work/check.json" >/dev/null || [ $? -le 2 ]
seed r "$work/check.json"
[ ! -e "$work/soak.json" ] || seed s "$work/soak.json"
printf 't{"guests":[],"rows":[],"summaries":[]}' >"$work/seeds/t"
head -c 2048 /dev/zero | sed 's/^/m/' >"$work/seeds/m"

status=0
"$fuzzer" -runs=0 -timeout=5 -artifact_prefix="$found/" "$here/corpus" || status=$?
[ "$status" -eq 0 ] || { echo "fuzz: an input in $here/corpus that was mended before fails again"; exit 1; }
# One mutation at a time: two seldom leave a history that can have happened.
"$fuzzer" -runs="$runs" -max_len=32768 -len_control=0 -mutate_depth=1 -entropic=0 -timeout=5 -rss_limit_mb=2048 \
  -print_final_stats=1 -verbosity=0 -print_funcs=0 \
  -artifact_prefix="$found/" "$work/new" "$work/seeds" || status=$?
[ "$status" -eq 0 ] || echo "fuzz: the input is in $found; mend what it found, and keep it in Tests/Fuzz/corpus"
exit "$status"
