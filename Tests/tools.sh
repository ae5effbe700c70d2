#!/bin/sh
# Fetches what the tests of the reports compare with, into .build/tools: the kernel's kunit.py from Debian's source
# package, and the schema that Jenkins checks JUnit's XML with, from the source of pytest, which tests with it too.
# What cannot be had is named; the tests that need it are skipped then, and say so.
set -eu
tools="$(dirname "$0")/../.build/tools"
mkdir -p "$tools"
cd "$tools"

# It starts nowhere but in a folder of this name.
if [ ! -e tools/testing/kunit/kunit.py ]; then
  package=$(apt-cache depends linux-source 2>/dev/null | sed -n 's/.*Depends: \(linux-source-.*\)/\1/p')
  if [ -n "$package" ] && apt-get download -q -o APT::Sandbox::User=root "$package" >/dev/null; then
    dpkg-deb --fsys-tarfile linux-source-*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
      tar -xJ --strip-components=1 --wildcards '*/tools/testing/kunit'
    rm linux-source-*.deb
  else
    echo "tools: no kunit.py: Debian's package linux-source cannot be had" >&2
  fi
fi

if [ ! -e junit-10.xsd ]; then
  if python3 -m pip download -q --no-deps --no-binary pytest -d pytest pytest; then
    tar -xzf pytest/*.tar.gz --strip-components=3 --wildcards '*/junit-10.xsd'
    rm -r pytest
  else
    echo "tools: no junit-10.xsd: pip cannot download the source of pytest" >&2
  fi
fi
