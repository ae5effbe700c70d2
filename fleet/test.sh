#!/bin/bash
# Each file of fleet/ under the schema or tool that its system has, and what can be run here, run.
# Usage: test.sh EXECUTABLE, as root. Needs check-jsonschema and kubernetes-validate in PATH, lava-common, slurm-wlm, munge.
set -euo pipefail
kvmclock=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
complain() { echo "fleet/test.sh: $*" >&2; exit 1; }

echo "== GitHub's schema for workflows"
check-jsonschema --builtin-schema vendor.github-workflows "$here/github/kvmclock.yml"

echo "== Kubernetes' schemas"
kubernetes-validate --strict "$here"/kubernetes/*.yaml

echo "== LAVA's schemas"
/usr/bin/python3 - "$here" <<'END'
import sys
import voluptuous
import yaml
from lava_common import schemas
from lava_common.schemas.test import testdef

here = sys.argv[1]
job = yaml.safe_load(open(f"{here}/lava/job.yaml"))
schemas.validate(job)
definition = yaml.safe_load(open(f"{here}/lava/kvmclock.yaml"))
voluptuous.Schema(testdef.testdef())(definition)
END

echo "== LAVA's test cases"
cat >"$work/lava-test-case" <<'END'
#!/bin/sh
echo "$1=$3"
END
chmod +x "$work/lava-test-case"
cat >"$work/ktap" <<'END'
KTAP version 1
1..4
# kvmclock 0.1.0: ok 9 NOT-A-RESULT
ok 1 MSR-INDEX-LIST
# rule: something
not ok 2 VERSION-EVEN
ok 3 RATE-RAW # XFAIL known
ok 4 PERIODIC-SYNC # SKIP time: --long was not given
END
said=$(PATH=$work:$PATH "$here/lava/results.sh" <"$work/ktap" | tr '\n' ' ')
[ "$said" = "MSR-INDEX-LIST=pass VERSION-EVEN=fail RATE-RAW=pass PERIODIC-SYNC=skip " ] || complain "$said"

if [ -e /dev/kvm ]; then
  echo "== no capability and no new privilege, as in Kubernetes' pods"
  setpriv --no-new-privs --bounding-set -all --inh-caps -all --clear-groups "$kvmclock" run --quick --format json >"$work/run.json" ||
    complain "a run without capabilities ended with $?"
  echo "== Slurm"
  "$here/slurm/test.sh" "$kvmclock"
fi
echo "fleet: all well"
