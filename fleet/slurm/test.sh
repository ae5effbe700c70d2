#!/bin/bash
# A cluster of three nodes on loopback, with a key and a configuration of its own; a run on each node; the comparison.
# Usage: test.sh EXECUTABLE, as root; needs slurmctld, slurmd, munged and /dev/kvm.
set -euo pipefail
executable=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
started=()
finish() {
  status=$?
  # Each daemon by its own id.
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  [ $status = 0 ] || tail -n 20 "$work"/*.log "$work"/results/*.log 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT
complain() { echo "fleet/slurm/test.sh: $*" >&2; exit 1; }
# Waits until a command succeeds, at most 60 s.
await() { for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; complain "still not so: $*"; }

mkdir "$work/state" "$work/spool" "$work/results"
chmod 755 "$work"
head -c 128 /dev/urandom >"$work/munge.key" && chmod 400 "$work/munge.key"
munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge.socket" \
  --pid-file="$work/munge.pid" --log-file="$work/munge.log" --seed-file="$work/munge.seed" >"$work/munge.out" 2>&1 &
started+=($!)
await test -S "$work/munge.socket"

host=$(hostname -s)
tasks=3
nodes=node[1-$tasks]
cat >"$work/slurm.conf" <<END
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
SlurmUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool/%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=5
SelectType=select/cons_tres
ReturnToService=2
NodeName=$nodes NodeHostname=$host NodeAddr=127.0.0.1 Port=[16818-$((16817 + tasks))] CPUs=1
PartitionName=all Nodes=$nodes Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$work/slurm.conf
slurmctld -D -f "$SLURM_CONF" >"$work/slurmctld.out" 2>&1 &
started+=($!)
for number in $(seq $tasks); do
  mkdir "$work/spool/node$number"
  slurmd -D -f "$SLURM_CONF" -N "node$number" >"$work/slurmd.$number.out" 2>&1 &
  started+=($!)
done
is_idle() { sinfo -h -N -o %t | grep -cx idle | grep -qx $tasks; }
await is_idle

# What the job says of its exit status is what submit.sh exits with.
export KVMCLOCK RESULTS=$work/results
cd "$work"
# stand_in WHAT: an executable that does something before the real one. Few rules: the nodes share this machine.
stand_in() {
  printf '#!/bin/sh\n[ "$1" = compare ] || { %s; }\nexec "%s" "$@"\n' "$1" "$executable" >"$work/stand-in"
  chmod 755 "$work/stand-in"
  KVMCLOCK=$work/stand-in
}
newest() { scontrol -o show job | sed -n 's/^JobId=\([0-9]*\) .*/\1/p' | sort -n | tail -n 1; }
submit() {
  status=0
  "$here/submit.sh" "$tasks" >submitted || status=$?
  scontrol -o show job "$(newest)" | grep -q "ExitCode=$status:0" ||
    complain "exit status $status: $(cat submitted)"
}

stand_in 'set -- "$@" "VERSION-*" "MSR-*"'
submit
# 1: a host breaks a rule.
[ $status -le 1 ] || complain "the comparison failed: $(cat submitted)"
reports=("$work"/results/node[1-9].*.json)
[ ${#reports[@]} = "$tasks" ] || complain "${#reports[@]} reports of $tasks nodes"
for report in "${reports[@]}"; do
  grep -q '"kvmclock-report"' "$report" || complain "$report is no report"
done
grep -q "$tasks reports" submitted || complain "no comparison: $(cat submitted)"
echo "slurm: $tasks nodes, $tasks reports, compared, exit status $status:"
head -n 6 submitted

# A cluster of which each host breaks a rule.
stand_in 'set -- "$@" SYSTIME-REWRITE-KEEPS-TIME --host interference'
submit
[ $status = 1 ] || complain "exit status $status where every host is broken: $(cat submitted)"
grep -q "BROKEN on $tasks of $tasks reports" submitted || complain "not said: $(cat submitted)"
echo "slurm: where every host is broken the exit status is 1"

# A node that leaves no report.
stand_in '[ "$SLURMD_NODENAME" != node2 ] || exit 69; set -- "$@" VERSION-EVEN'
submit
[ $status = 69 ] || complain "exit status $status where a node left no report: $(cat submitted)"
grep -q "2 reports from $tasks nodes" submitted || complain "not said: $(cat submitted)"
echo "slurm: where a node leaves no report the exit status is 69"
