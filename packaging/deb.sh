#!/bin/sh
# Makes a Debian package of a tree that `make install PREFIX=/usr DESTDIR=TREE` filled.
# Usage: deb.sh TREE VERSION FOLDER
set -eu
tree=$(realpath "$1") version=$2 folder=$3
here=$(cd "$(dirname "$0")" && pwd)
name=kvmclock
doc=$tree/usr/share/doc/$name
# Who builds it, by Debian's own variables or by git's settings.
author() { git -C "$here" config "user.$1" || git -C "$here" log -1 --format="$2"; }
maintainer="${DEBFULLNAME:-$(author name %an)} <${DEBEMAIL:-$(author email %ae)}>"
architecture=$(dpkg --print-architecture)
when=$(date -u -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")

# The licence has a name of its own in Debian, and lies there already.
rm -f "$doc/LICENSE"
sed "s/@YEAR@/$(date -u +%Y -d "$when")/" "$here/copyright" >"$doc/copyright"
printf '%s (%s) unstable; urgency=medium\n\n  * Built from the sources of this version.\n\n -- %s  %s\n' \
  "$name" "$version" "$maintainer" "$when" | gzip -9n >"$doc/changelog.gz"
gzip -9n "$tree"/usr/share/man/man1/*.1
find "$tree" -type d -exec chmod 755 {} +
find "$tree" -type f -exec chmod 644 {} +
chmod 755 "$tree/usr/bin/$name"

# dpkg-shlibdeps wants a source package around it.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debian" "$tree/DEBIAN"
printf 'Source: %s\n\nPackage: %s\nArchitecture: %s\n' "$name" "$name" "$architecture" >"$work/debian/control"
(cd "$work" && dpkg-shlibdeps -O "$tree/usr/bin/$name") >"$work/depends"
depends=$(sed -n 's/^shlibs:Depends=//p' "$work/depends")

cat >"$tree/DEBIAN/control" <<END
Package: $name
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f1)
Depends: $depends
Section: utils
Priority: optional
Description: conformance harness for the KVM paravirtual clock
 Runs small virtual machines on /dev/kvm, lets their guests register and
 read the paravirtual clock (kvmclock, pvclock), and compares what they saw
 with what its ABI promises: registration, versions, flags, rates, races,
 migration.
 .
 For people who change Linux's KVM, write virtual machine monitors, or run
 fleets of hosts.
END
(cd "$tree" && find usr -type f -printf '%P\n' | LC_ALL=C sort | sed 's,^,usr/,' | xargs md5sum) >"$tree/DEBIAN/md5sums"
mkdir -p "$folder"
dpkg-deb --root-owner-group --build "$tree" "$folder/${name}_${version}_$architecture.deb"
