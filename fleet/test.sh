#!/bin/bash
# Each file of fleet/ under the schema or tool that its system has, and what can be run here, run.
# Usage: test.sh EXECUTABLE, as root. Needs check-jsonschema, kubernetes-validate and a python with prometheus_client in PATH,
# lava-common, slurm-wlm, munge.
set -euo pipefail
kvmclock=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
complain() { echo "fleet/test.sh: $*" >&2; exit 1; }

echo "== GitHub's schema for workflows"
check-jsonschema --builtin-schema vendor.github-workflows "$here"/github/*.yml

echo "== Prometheus' alert rules and Grafana's dashboard"
python3 -m json.tool "$here/prometheus/dashboard.json" >/dev/null
if command -v promtool >/dev/null; then
  promtool check rules "$here/prometheus/alerts.yml"
  (cd "$here/prometheus" && promtool test rules alerts_test.yml)
else
  echo "skipped: promtool is not installed (Debian's package prometheus has it)"
fi

echo "== Kubernetes' schemas"
kubernetes-validate --strict "$here"/kubernetes/*.yaml

echo "== LAVA's schemas"
if /usr/bin/python3 -c 'import lava_common' 2>/dev/null; then
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
else
  echo "skipped: lava_common is not installed (Debian 12's package lava-common has it; Debian 13 has none)"
fi

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
  setpriv --no-new-privs --bounding-set -all --inh-caps -all --clear-groups "$kvmclock" run --format json >"$work/run.json" ||
    # 2 is a busy machine.
    [ $? = 2 ] || complain "a run without capabilities broke a rule, or none was run"
  echo "== Prometheus' own parser"
  "$kvmclock" soak MONO-CROSS-VCPU --for 2s --checkpoint "$work/soak.json" --prometheus "$work/soak.prom" >/dev/null 2>&1 ||
    [ $? = 2 ] || complain "a soak broke a rule, or did not run"
  python - "$work/soak.prom" <<'END'
import sys
from prometheus_client.parser import text_string_to_metric_families as parse

families = {one.name: one for one in parse(open(sys.argv[1]).read())}
assert families["kvmclock_soak_readings"].samples[0].value > 0
assert families["kvmclock_soak_running"].samples[0].value == 0
spread = families["kvmclock_soak_step_back_seconds"]
assert spread.type == "histogram", spread.type
buckets = [one for one in spread.samples if one.labels.get("le") == "+Inf"]
assert buckets and all(one.value > 0 for one in buckets)
END
  echo "== Slurm"
  "$here/slurm/test.sh" "$kvmclock"
fi
echo "fleet: all well"
