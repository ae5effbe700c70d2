#!/bin/bash
# A cluster of one node on loopback, with a key and a configuration of its own; the array job; the comparison.
# Usage: test.sh EXECUTABLE, as root; needs slurmctld, slurmd, munged and /dev/kvm.
set -euo pipefail
KVMCLOCK=$(realpath "$1")
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

node=$(hostname -s)
cat >"$work/slurm.conf" <<END
ClusterName=loopback
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
SlurmUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=5
SelectType=select/cons_tres
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$work/slurm.conf
slurmctld -D -f "$SLURM_CONF" >"$work/slurmctld.out" 2>&1 &
started+=($!)
slurmd -D -f "$SLURM_CONF" -N "$node" >"$work/slurmd.out" 2>&1 &
started+=($!)
is_idle() { sinfo -h -o %t | grep -qx idle; }
await is_idle

# What the job says of its exit status is what submit.sh exits with; both are `kvmclock compare`'s.
export KVMCLOCK RESULTS=$work/results
cd "$work"
tasks=3
submit() {
  status=0
  "$here/submit.sh" "$tasks" >submitted || status=$?
  comparing=$(head -n 1 submitted)
  scontrol -o show job "$comparing" | grep -q "ExitCode=$status:0" ||
    complain "exit status $status: $(cat submitted)"
}

submit
# 1: a host breaks a rule.
[ $status -le 1 ] || complain "the comparison failed: $(cat submitted)"
reports=("$work"/results/*.json)
[ ${#reports[@]} = "$tasks" ] || complain "${#reports[@]} reports of $tasks tasks"
for report in "${reports[@]}"; do
  grep -q '"kvmclock-report"' "$report" || complain "$report is no report"
done
grep -q "$tasks reports" submitted || complain "no comparison: $(cat submitted)"
echo "slurm: $tasks tasks, $tasks reports, compared, exit status $status:"
sed -n 2,7p submitted

# A cluster of which each host breaks a rule.
cat >"$work/broken" <<END
#!/bin/sh
[ "\$1" = compare ] || set -- "\$@" SYSTIME-REWRITE-KEEPS-TIME --host interference
exec "$KVMCLOCK" "\$@"
END
chmod 755 "$work/broken"
KVMCLOCK=$work/broken
submit
[ $status = 1 ] || complain "exit status $status where every host is broken: $(cat submitted)"
grep -q "BROKEN on $tasks of $tasks reports" submitted || complain "not said: $(cat submitted)"
echo "slurm: where every host is broken the exit status is 1"
