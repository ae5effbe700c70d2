#!/bin/bash
# What `make dist` and `make deb` made: installs, reads, completes and runs where it should.
# Usage: test.sh FOLDER, as root; needs lintian, man, zsh and fish.
set -euo pipefail
folder=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
complain() { echo "packaging/test.sh: $*" >&2; exit 1; }
# Says what was expected and was not there.
expect() { grep -qE -- "$1" <<<"$2" || complain "expected '$1' in: $2"; }

deb=("$folder"/kvmclock_*.deb)
tarball=("$folder"/kvmclock-*.tar.gz)

echo "== lintian accepts the package"
lintian --allow-root --fail-on error,warning "${deb[0]}"

dpkg-deb -x "${deb[0]}" "$work/deb"
mkdir "$work/tar" && tar -C "$work/tar" --strip-components 1 -xzf "${tarball[0]}"

echo "== man renders every page without a warning"
pages=0
for page in "$work"/tar/share/man/man1/*.1; do
  said=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
  [ -z "$said" ] || complain "$page: $said"
  pages=$((pages + 1))
done
[ "$pages" -ge 7 ] || complain "only $pages pages"
expect 'checkpoint' "$(man -l "$work/tar/share/man/man1/kvmclock-soak.1")"

echo "== bash, zsh and fish load the completions and use them"
PATH=$work/tar/bin:$PATH
said=$(bash -c '
  source "$1/share/bash-completion/completions/kvmclock"
  function=$(complete -p kvmclock | sed "s/.*-F \([^ ]*\).*/\1/")
  COMP_WORDS=(kvmclock soak --ch) COMP_CWORD=2 COMP_LINE="kvmclock soak --ch" COMP_POINT=18 COMP_TYPE=9
  "$function" kvmclock --ch soak 2>/dev/null || true
  echo "${COMPREPLY[@]}"' bash "$work/tar")
expect '--checkpoint' "$said"
# zsh completes only in front of somebody: a pseudo-terminal, in which Tab is pressed.
said=$(zsh -f -c '
  zmodload zsh/zpty
  zpty shell zsh -f -i
  zpty -w shell "PS1=; fpath=($1/share/zsh/vendor-completions \$fpath); autoload -Uz compinit; compinit -u -D"
  zpty -w -n shell "kvmclock soak --ch"$'"'\\t'"'
  sleep 2
  zpty -r -t shell out; while zpty -r -t shell more; do out+=$more; done
  print -r -- "$out"' zsh "$work/tar")
expect '--checkpoint' "$said"
said=$(HOME=$work fish --no-config -c "source $work/tar/share/fish/vendor_completions.d/kvmclock.fish; complete -C 'kvmclock so'; complete -C 'kvmclock run SYSTIME-REWRITE-S'")
expect '^soak' "$said"
expect '^SYSTIME-REWRITE-STORM' "$said"

echo "== the package's executable and the tarball's say the same"
[ "$("$work/deb/usr/bin/kvmclock" list)" = "$("$work/tar/bin/kvmclock" list)" ] || complain "they differ"

echo "== the executable runs where there is nothing but /dev"
root=$work/root
mkdir -p "$root/dev"
cp "$work/tar/bin/kvmclock" "$root/init"
inside() {
  unshare --mount --pid --fork sh -c '
    mount --rbind /dev "$0/dev"; exec chroot "$0" /init "$@"' "$root" "$@"
}
expect '^[1-9][0-9]+ rules' "$(inside list | wc -l) rules"
if [ -e /dev/kvm ]; then
  said=$(inside run) || [ $? = 2 ] || complain "a run in an empty root: $said"
  expect '^[0-9]+ rules: .* 0 broken' "$said"
fi
echo "packages: all well"
