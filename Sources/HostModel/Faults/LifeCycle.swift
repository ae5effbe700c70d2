internal import KVM

extension Fault {
  static let lifeCycle: [Fault] = [
    Fault(
      "RESTART-IN-REAL-MODE", breaks: ["MODE-INDEPENDENT"],
      also: restartBreaks, because: restart,
      "the second write, which a guest in real mode makes, restarts time"
    ) {
      $0.beforeWrite { clock, _, _ in
        if clock.count(0) == 2 { clock.restart() }
      }
    },
    Fault(
      "INIT-KEEPS-MSR", breaks: ["INIT-CLEARS-SYSTIME"],
      "the MSR keeps its value over INIT: kvmclock_reset() that leaves vcpu->arch.time alone"
    ) {
      $0.reset = { clock, vcpu in
        clock.memo[vcpu] = clock.vcpus[vcpu]!.systemTimeMSR
        return false
      }
      $0.beforeWrite { clock, access, _ in clock.memo[access.vcpu] = nil }
      $0.read = { clock, access, value in value = clock.memo[access.vcpu] ?? value }
    },
    Fault(
      "INIT-IGNORED", breaks: ["INIT-FREEZES-PAGE", "INIT-CLEARS-SYSTIME"],
      "INIT does not reset the clock at all"
    ) { $0.reset = { _, _ in true } },
    Fault(
      "INIT-LEAVES-ACTIVE", breaks: ["KVMCLOCKCTRL-EINVAL"],
      "a record stays active over INIT: KVM_KVMCLOCK_CTRL takes it for one"
    ) {
      $0.reset = { _, _ in true }
    },
    Fault(
      "RESTART-AFTER-INIT", breaks: ["INIT-REREGISTER-KEEPS-TIME", "REPLUG-VCPU0-KEEPS-TIME"],
      also: restartBreaks, because: restart,
      "a registration after INIT restarts time: what Linux 4.2 did to a re-plugged vCPU 0"
    ) {
      $0.reset = { clock, vcpu in
        clock.memo[vcpu] = 1
        return false
      }
      $0.beforeWrite { clock, access, _ in
        if clock.memo.removeValue(forKey: access.vcpu) != nil { clock.restart() }
      }
    },
    Fault(
      "MOVE-FORGETS-CLOCK", breaks: ["MIG-PLAIN-CONTINUES", "SETCLOCK-SETS-ALL-VCPUS"],
      also: ["MIG-REALTIME-CONTINUES", "SETCLOCK-EXACT"],
      because: "it is moved by the same request",
      "KVM_SET_CLOCK leaves the clock where it was"
    ) {
      $0.set = { clock, data in
        data = ClockData(clock: clock.now().systemTime)
        return false
      }
    },
    Fault(
      "MOVE-TAKES-OLD-MSR", breaks: ["MIG-OLDMSR-STATE"],
      "KVM_SET_MSRS of the old MSR tells that the guest uses it"
    ) { $0 = .hostOldMSRCounts },
    Fault(
      "MANY-ONE-UNSERVED", breaks: ["MANY-VCPUS-REGISTER"],
      also: ["MANY-VCPUS-ORDER", "MANY-VCPUS-SETCLOCK", "SETCLOCK-SETS-ALL-VCPUS"],
      because: "a record that was never written shows no time",
      "one vCPU's write requests no update"
    ) {
      $0.write = { clock, access, value in
        guard access.vcpu == clock.vcpus.keys.max() else { return nil }
        clock.vcpus[access.vcpu]!.systemTimeMSR = value & ~1
        return .done
      }
    },
    Fault(
      "MANY-ONE-BEHIND", breaks: ["MANY-VCPUS-ORDER"],
      also: ["MONO-CROSS-VCPU", "MANY-VCPUS-SETCLOCK", "SETCLOCK-SETS-ALL-VCPUS"],
      because: "it is behind the value set, too",
      "one vCPU's record is 1 s behind the others'"
    ) {
      $0.record = { clock, vcpu, _, record in
        if vcpu == clock.vcpus.count / 2 { record.systemTime &-= 1_000_000_000 }
      }
    },
    Fault(
      "MANY-ONE-NOT-SET", breaks: ["MANY-VCPUS-SETCLOCK"],
      also: ["MONO-CROSS-VCPU", "MANY-VCPUS-ORDER", "SETCLOCK-SETS-ALL-VCPUS"],
      because: "it goes on with the clock that it had",
      "KVM_SET_CLOCK does not reach the vCPU with the highest id"
    ) {
      $0.set = { clock, data in
        clock.memo[0] = data.clock &- clock.now().systemTime
        return false
      }
      $0.record = { clock, vcpu, _, record in
        if vcpu == clock.vcpus.keys.max() { record.systemTime &-= clock.memo[0] ?? 0 }
      }
    },
  ]
}
