internal import ABIChecker
internal import KVM
internal import PVClock

extension Fault {
  static let time: [Fault] = [
    Fault(
      "VCPU1-BEHIND",
      breaks: ["CLOCK-BRACKET", "SCHEDOFF-NO-UNDERFLOW", "SCHEDCLOCK-CONSTANT-OFFSET"],
      also: [
        "MONO-CROSS-VCPU", "SYSTIME-GLOBAL-PAIR", "GETCLOCK-IS-GUEST-VIEW",
        "CLOCK-BRACKET-NONMASTER",
        "SETCLOCK-SETS-ALL-VCPUS",
      ], because: "one vCPU off is off by every measure",
      "vCPU 1's clock is 1 s behind"
    ) {
      $0.record = { _, vcpu, _, record in if vcpu == 1 { record.systemTime &-= 1_000_000_000 } }
    },
    Fault(
      "MULTIPLIER-ONE-OFF", breaks: ["MULSHIFT-EXACT"],
      also: ["MULSHIFT-TSCKHZ", "GETCLOCK-IS-GUEST-VIEW"],
      because:
        "where the shift is negative, one in the multiplier can be two kHz; it makes 1 ns in two to four seconds",
      "the multiplier is rounded up"
    ) { $0.record = { _, _, _, record in record.tscToSystemMultiplier += 1 } },
    Fault(
      "FREQUENCY-300-KHZ", breaks: ["MULSHIFT-EXACT", "MULSHIFT-TSCKHZ"],
      also: ["GETCLOCK-IS-GUEST-VIEW", "CLOCK-BRACKET"],
      because: "a clock at another rate is soon elsewhere",
      "records are made for a TSC 300 kHz faster: a snapshot of an unrefined frequency, the class of 3ebcbd2244f5"
    ) {
      $0.record = { clock, _, _, record in
        let scale = TSCScale(tscKHz: clock.time.tscKHz + 300)
        (record.tscToSystemMultiplier, record.tscShift) = (scale.multiplier, scale.shift)
      }
    },
    Fault(
      "FREQUENCY-IN-MHZ", breaks: ["MULSHIFT-TSCKHZ"],
      also: ["MULSHIFT-EXACT", "GETCLOCK-IS-GUEST-VIEW"],
      because: "a clock at another rate is soon elsewhere",
      "records are made for the TSC's frequency in whole MHz, as a processor's name gives it"
    ) {
      $0.record = { clock, _, _, record in
        let scale = TSCScale(tscKHz: (clock.time.tscKHz - 1) / 1000 * 1000)
        (record.tscToSystemMultiplier, record.tscShift) = (scale.multiplier, scale.shift)
      }
    },
    Fault(
      "STEP-ON-RETURN", breaks: ["MONO-VCPU"],
      also: restartBreaks + ["SCHEDCLOCK-CONSTANT-OFFSET"],
      because: "it is a write that loses time, and the guest's constant is of the time before",
      "a vCPU that registers a second time finds time 1 h back"
    ) {
      $0.beforeWrite { clock, access, value in
        guard access.isSystemTime, value & 1 == 1 else { return }
        if clock.count(access.vcpu) == 2 { clock.step(-3_600_000_000_000) }
      }
    },
    Fault(
      "VCPU1-100-NS-AHEAD", breaks: ["SYSTIME-GLOBAL-PAIR"], also: ["GETCLOCK-IS-GUEST-VIEW"],
      because: "the record is what KVM_GET_CLOCK is held against",
      "vCPU 1's record is 100 ns ahead"
    ) { $0.record = { _, vcpu, _, record in if vcpu == 1 { record.systemTime &+= 100 } } },
    Fault(
      "PAIR-STEPS", breaks: ["RESNAP-BOUNDED"], also: ["RESNAP-NO-JUMP"],
      because: "a step that is too large by any bound",
      "time steps by 1 us where vCPU 0 goes to the old MSR"
    ) {
      $0.beforeWrite { clock, access, _ in if access.msr == MSR.systemTimeOld { clock.step(1000) } }
    },
    Fault(
      "PAIR-STEPS-4-NS", breaks: ["RESNAP-NO-JUMP"], also: ["RESNAP-BOUNDED"],
      because: "after a short wait it is more than the two multipliers make",
      "a new pair is 4 ns off the line of the one before, as pairs taken from CLOCK_MONOTONIC_RAW are: all Linux so far"
    ) {
      $0.beforeWrite { clock, access, _ in if access.msr == MSR.systemTimeOld { clock.step(4) } }
    },
    Fault(
      "RACE-VCPU1-BEHIND", breaks: ["MONO-CROSS-VCPU"],
      "vCPU 1's record is 1 us behind: readings on two vCPUs are out of order"
    ) {
      $0.record = { clock, vcpu, _, record in
        if vcpu == 1, clock.hasMasterClock { record.systemTime &-= 1000 }
      }
    },
    Fault(
      "RACE-NOSTABLE", breaks: ["MONO-CROSS-NOSTABLE"], also: ["MONO-VCPU"],
      because: "vCPU 1 itself goes back where the master clock is lost",
      "without the master clock vCPU 1's record is 1 s behind"
    ) {
      $0.record = { clock, vcpu, _, record in
        if vcpu == 1, !clock.hasMasterClock { record.systemTime &-= 1_000_000_000 }
      }
    },
    Fault(
      "STORM-STEPS", breaks: ["OLDMSR-STORM-MONO"],
      also: restartBreaks, because: "each of these writes is one that loses time",
      "every 100th write of the old MSR loses 1 s"
    ) {
      $0.beforeWrite { clock, access, _ in
        if access.msr == MSR.systemTimeOld, clock.count(9) % 100 == 0 { clock.step(-1_000_000_000) }
      }
    },
    Fault(
      "SHARED-HOUR-OFF", breaks: ["SHARED-PAGE-SANE"], also: ["SYSTIME-REWRITE-KEEPS-TIME"],
      because: "the write that shares the record is one that moves time",
      "a record that two vCPUs share is an hour off"
    ) {
      $0.record = { clock, vcpu, _, record in
        let address = clock.vcpus[vcpu]!.recordAddress
        if clock.vcpus.values.filter({ $0.recordAddress == address }).count > 1 {
          record.systemTime &+= 3_600_000_000_000
        }
      }
    },
    Fault(
      "NEW-PAIR-ON-ENTRY", breaks: ["HOP"],
      "entries take new pairs, as those after a move between CPUs do without the master clock"
    ) {
      $0.entered = { clock, _ in
        guard clock.hasMasterClock, clock.count(0) % 25 == 0 else { return }
        clock.step(0)
      }
    },
    Fault(
      "NO-STABLE-FLAG", breaks: ["STABLE-WHEN-MASTER"],
      "PVCLOCK_TSC_STABLE_BIT is never set"
    ) { $0.record = { _, _, _, record in record.flags.remove(.tscStable) } },
    Fault(
      "NO-STABLE-IN-GET", breaks: ["STABLE-WHEN-MASTER"], also: ["GETCLOCK-NONMASTER-FIELDS"],
      because: "without the flag no other field may be there",
      "KVM_GET_CLOCK never says KVM_CLOCK_TSC_STABLE"
    ) { $0.get = { _, data in data.flags.remove(.tscStable) } },
    Fault(
      "STABLE-BY-CPUID", breaks: ["STABLE-INDEP-CPUID24"],
      "the flag is set only for guests whose CPUID has KVM_FEATURE_CLOCKSOURCE_STABLE_BIT"
    ) {
      $0.record = { clock, vcpu, _, record in
        if (clock.vcpus[vcpu]!.features ?? 0) & 1 << 24 == 0 { record.flags.remove(.tscStable) }
      }
    },
    Fault(
      "OLD-MSR-IGNORED", breaks: ["STABLE-OLDMSR-VCPU0-CLEARS", "OLDMSR-REFRESH-TIMESTAMP"],
      "the master clock does not depend on the MSR that vCPU 0 uses: Linux before 54750f2cf042"
    ) { $0.entered = { clock, _ in clock.bootVCPUUsesOldMSR = false } },
    Fault(
      "OLD-MSR-ON-ANY-VCPU", breaks: ["STABLE-OLDMSR-VCPU1-NOEFFECT"],
      "the old MSR takes the master clock away on any vCPU"
    ) {
      $0.beforeWrite { clock, access, _ in
        if access.isSystemTime, !access.byHost { clock.memo[0] = access.isOld ? 1 : 0 }
      }
      $0.entered = { clock, _ in clock.bootVCPUUsesOldMSR = clock.memo[0] == 1 }
    },
    Fault(
      "OLD-MSR-FOR-GOOD", breaks: ["STABLE-NEWMSR-RESTORES"],
      "whoever used the old MSR once never gets the master clock back"
    ) {
      $0.entered = { clock, _ in
        if clock.bootVCPUUsesOldMSR { clock.memo[0] = 1 }
        clock.bootVCPUUsesOldMSR = clock.memo[0] == 1
      }
    },
    Fault(
      "OLD-MSR-BY-HOST", breaks: ["STABLE-OLDMSR-HOST-NOEFFECT"],
      "KVM_SET_MSRS of the old MSR takes the master clock away: every guest that user space restores would lose it"
    ) { $0 = .hostOldMSRCounts },
    Fault(
      "RESTART-ON-CHANGE-OF-MSR", breaks: ["OLDMSR-KEEPS-TIME"],
      also: restartBreaks + ["GETCLOCK-NONMASTER-IS-RAW"], because: restart,
      "time restarts where vCPU 0 goes from one MSR to the other"
    ) {
      $0.beforeWrite { clock, access, _ in
        if access.vcpu == 0, access.isSystemTime, access.isOld != clock.bootVCPUUsesOldMSR {
          clock.restart()
        }
      }
    },
    Fault(
      "OLD-MSR-STALE-TIMESTAMP", breaks: ["OLDMSR-REFRESH-TIMESTAMP"],
      "without the master clock an update shows the pair of the last setting: SLES 10 would lose ticks"
    ) {
      $0.record = { clock, _, _, record in
        guard !clock.hasMasterClock else { return }
        (record.tscTimestamp, record.systemTime) = (clock.point.tsc, clock.point.systemTime)
      }
    },
    Fault(
      "HOTPLUG-LOSES-STABLE", breaks: ["HOTPLUG-STABLE"],
      "a vCPU that comes late takes the flag away from all"
    ) {
      $0.record = { clock, _, _, record in
        if clock.vcpus.count > 1 { record.flags.remove(.tscStable) }
      }
    },
    Fault(
      "HOTPLUG-RESTARTS", breaks: ["HOTPLUG-KEEPS-TIME"],
      also: restartBreaks + ["HOTPLUG-NO-RESNAP"], because: restart,
      "the first registration of a late vCPU restarts time"
    ) {
      $0.beforeWrite { clock, access, _ in
        if access.vcpu > 0, clock.count(access.vcpu) == 1 { clock.restart() }
      }
    },
    Fault(
      "HOTPLUG-NEW-PAIR", breaks: ["HOTPLUG-NO-RESNAP"],
      "each new vCPU has the pair taken anew: Linux before c52ffadc65e2"
    ) {
      $0.entered = { clock, vcpu in if clock.count(vcpu) == 1 { clock.step(0) } }
    },
  ]
}

extension Deviation {
  static var hostOldMSRCounts: Deviation {
    var deviation = Deviation()
    deviation.beforeWrite { clock, access, _ in
      if access.byHost, access.vcpu == 0, access.isSystemTime {
        clock.bootVCPUUsesOldMSR = access.isOld
      }
    }
    return deviation
  }
}
