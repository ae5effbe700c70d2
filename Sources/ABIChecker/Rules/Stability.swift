internal import PVClock

// Section E of the catalogue: PVCLOCK_TSC_STABLE_BIT, and the old MSR that takes it away.

extension Rule {
  static let stability: [Rule] = [
    .stableWhenMaster, .stableIndepCPUID24, .stableOldMSRVCPU0Clears, .stableOldMSRVCPU1NoEffect,
    .oldMSRKeepsTime, .stableNewMSRRestores,
  ]

  static let stableWhenMaster = Rule(
    "STABLE-WHEN-MASTER",
    "With a TSC clocksource on the host, matched vCPUs and a boot vCPU on the new MSR, bit 0 is set in every record and "
      + "KVM_GET_CLOCK says KVM_CLOCK_TSC_STABLE; with another clocksource neither does.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, flags; Linux d828199e8444; arch/x86/kvm/x86.c, pvclock_update_vm_gtod_copy()",
    method:
      "The clocksource from sysfs; each vCPU registers and runs; look at the records and at KVM_GET_CLOCK.",
    scenarios: [.registration],
    faults: [
      "kvm_guest_time_update() never sets STABLE",
      "get_kvmclock() never reports KVM_CLOCK_TSC_STABLE", "the new MSR taken for the old one",
    ]
  ) { timeline in
    guard let expected = timeline.history.header.host.clocksourceIsTSC else {
      return .notTested(reason: "the host's clocksource is unknown: sysfs is not there")
    }
    let name = timeline.history.header.host.clocksource ?? ""
    var findings = Findings()
    var created: Set<Int> = []
    var registered: Set<Int> = []
    var newest = NewestPair()
    for event in timeline.history.events {
      _ = newest.take(event)
      switch (event.action, event.actor) {
      case (.vmCreated, _): (created, registered) = ([], [])
      case (.vcpuCreated(let vcpu), _): created.insert(vcpu)
      case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
        // On the old MSR the boot vCPU takes the master clock away; another rule has that.
        if value.value & 1 == 1, vcpu != 0 || !MSR.isOldSystemTime(msr) {
          registered.insert(vcpu)
        } else {
          registered.remove(vcpu)
        }
      case (_, _) where expected && newest.mayBeUnmatched: continue
      case (.page(let vcpu, _, let page), _) where registered == created && newest.isHeld(by: vcpu):
        findings.expect(
          page.flags.contains(.tscStable) == expected, at: [event],
          "bit 0 \(expected ? "set" : "clear") in vcpu\(vcpu)'s record: the host's clocksource is \(name)",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      case (.getClock(let record), _) where registered == created && !created.isEmpty:
        findings.expect(
          record.isTSCStable == expected, at: [event],
          "KVM_CLOCK_TSC_STABLE \(expected ? "set" : "clear"): the host's clocksource is \(name)",
          seen: "flags \(Hex(record.flags))")
      default: continue
      }
    }
    return findings.outcome(atLeast: 3, "records and KVM_GET_CLOCK", in: timeline)
  }

  static let stableIndepCPUID24 = Rule(
    "STABLE-INDEP-CPUID24",
    "Bit 0 follows the host's clock, not bit 24 of the guest's CPUID: that bit says whether the guest may believe it.",
    source:
      "Documentation/virt/kvm/x86/cpuid.rst, KVM_FEATURE_CLOCKSOURCE_STABLE_BIT; msr.rst, flags",
    method:
      "Two machines, CPUID with bit 24 and without; compare the flag in the record with KVM_GET_CLOCK.",
    scenarios: [.cpuid24], faults: ["STABLE only for guests with CPUID bit 24"]
  ) { timeline in
    var findings = Findings()
    var bit24 = true
    var shown: Set<Bool> = []
    var newest = NewestPair()
    var last: (event: Event, page: ClockPage)?
    for event in timeline.history.events {
      if newest.take(event) { last = nil }
      switch event.action {
      case .vmCreated, .setClock: last = nil
      case .featuresSet(_, let features): bit24 = features.value >> 24 & 1 == 1
      case .page(let vcpu, _, let page): last = newest.isHeld(by: vcpu) ? (event, page) : nil
      case .getClock(let record):
        guard let (look, page) = last else { continue }
        last = nil
        guard record.isTSCStable else {
          findings.lacks("this host gives no master clock, so bit 0 is clear either way")
          continue
        }
        shown.insert(bit24)
        findings.expect(
          page.flags.contains(.tscStable), at: [look, event],
          "bit 0 set in the record with CPUID bit 24 \(bit24 ? "set" : "clear"): KVM_GET_CLOCK says master clock",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      default: continue
      }
    }
    return findings.outcome(
      atLeast: shown.count == 2 ? 2 : .max, "machines, with and without CPUID bit 24", in: timeline)
  }

  static let stableOldMSRVCPU0Clears = Rule(
    "STABLE-OLDMSR-VCPU0-CLEARS",
    "When the guest's vCPU 0 registers through the old MSR, the VM leaves master-clock mode: bit 0 clears in every record "
      + "and KVM_GET_CLOCK no longer says KVM_CLOCK_TSC_STABLE.",
    source: "Linux 54750f2cf042 (4.0), for SLES 10's 2.6.16",
    method: "Both vCPUs registered through the new MSR; vCPU 0 writes 0x12; all enter; look.",
    scenarios: [.oldMSR],
    faults: ["the master clock does not depend on boot_vcpu_runs_old_kvmclock"]
  ) { timeline in
    timeline.stability(after: { $0 == 0 && MSR.isOldSystemTime($1) }, expected: false)
  }

  static let stableOldMSRVCPU1NoEffect = Rule(
    "STABLE-OLDMSR-VCPU1-NOEFFECT",
    "The old MSR on any vCPU but that with id 0 leaves master-clock mode alone, also if it was created first or alone.",
    source: "Linux 54750f2cf042 (4.0); arch/x86/kvm/x86.c, kvm_write_system_time()",
    method:
      "vCPU 1 writes 0x12 beside vCPU 0 on the new MSR, and in a machine of its own; all enter; look.",
    scenarios: [.oldMSRElsewhere],
    faults: ["the old MSR counts on any vCPU", "… on the vCPU made first, whatever its id"]
  ) { timeline in
    timeline.stability(after: { $0 != 0 && MSR.isOldSystemTime($1) }, expected: true)
  }

  static let stableNewMSRRestores = Rule(
    "STABLE-NEWMSR-RESTORES",
    "When vCPU 0 registers through the new MSR again, master-clock mode returns.",
    source: "Linux 54750f2cf042 (4.0), 1e293d1ae88c (5.10)",
    method: "After the old MSR, vCPU 0 writes 0x4b564d01; all enter; look.",
    scenarios: [.oldMSR],
    faults: ["boot_vcpu_runs_old_kvmclock is never cleared", "… is cleared without a new snapshot"]
  ) { timeline in
    timeline.stability(
      after: { $0 == 0 && $1.value == UInt64(MSR.systemTime) }, expected: true,
      fromClear: true)
  }

  static let oldMSRKeepsTime = Rule(
    "OLDMSR-KEEPS-TIME",
    "Changing between the old and the new MSR keeps the time.",
    source: "Linux 1e293d1ae88c (5.10)",
    method: "Read, wait, write the other MSR, read; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.oldMSR], everywhere: true,
    faults: ["kvmclock_offset minus the base when vCPU 0 goes to the old MSR, or back"]
  ) { timeline in
    var current: [Int: Hex] = [:]
    var changes: Set<Int> = []
    for event in timeline.history.events {
      guard case .vcpu(let vcpu) = event.actor,
        case .wroteMSR(let msr, let value, nil) = event.action,
        MSR.isSystemTime(msr), value.value & 1 == 1
      else { continue }
      if let old = current[vcpu], old != msr { changes.insert(event.number) }
      current[vcpu] = msr
    }
    return timeline.keepsTime(
      across: "changes between the MSRs", atLeast: 2,
      why: "the time that CLOCK_MONOTONIC_RAW counted; which MSR is written does not matter"
    ) { event in
      guard changes.contains(event.number), case .vcpu(let vcpu) = event.actor else { return nil }
      return vcpu
    }
  }
}

extension Timeline {
  /// After a guest's write that `changes` (vCPU, MSR), and an entry of every vCPU, all records and KVM_GET_CLOCK
  /// say `expected`; before it they said stable, or with `fromClear` not.
  fileprivate func stability(
    after changes: (Int, Hex) -> Bool, expected: Bool, fromClear: Bool = false
  ) -> Outcome {
    var findings = Findings()
    var newest = NewestPair()
    // What KVM_GET_CLOCK said last; before the first entry it always says no.
    var before: Bool?
    var wasStable = false
    var change: Event?
    for event in history.events {
      let known = before
      let wasOnOldMSR = newest.isBootVCPUOnOldMSR
      _ = newest.take(event)
      if newest.isBootVCPUOnOldMSR != wasOnOldMSR { before = nil }
      if newest.mayBeUnmatched { change = nil }
      switch (event.action, event.actor) {
      case (.vmCreated, _): (before, wasStable, change) = (nil, false, nil)
      case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
        change = nil
        guard value.value & 1 == 1, changes(vcpu, msr) else { continue }
        guard !newest.mayBeUnmatched else {
          findings.lacks("a vCPU's TSC was moved, so the vCPUs may no longer match")
          continue
        }
        // Where the clock is to stay stable, a vCPU that starts on the old MSR has nothing before it.
        let begins =
          expected && !fromClear && !newest.isBootVCPUOnOldMSR
          && history.header.host.clocksourceIsTSC == true
        guard wasStable || begins, known ?? begins != fromClear else {
          findings.lacks(
            "KVM_GET_CLOCK did not say before the write that the VM had a master clock"
              + (fromClear ? " and lost it" : ""))
          continue
        }
        change = event
      case (.getClock(let record), _):
        if newest.hasEntered { before = record.isTSCStable }
        wasStable = wasStable || record.isTSCStable
        guard let change else { continue }
        findings.expect(
          record.isTSCStable == expected, at: [change, event],
          "KVM_CLOCK_TSC_STABLE \(expected ? "set" : "clear")", seen: "flags \(Hex(record.flags))")
      case (.page(let vcpu, _, let page), _):
        guard let change, newest.isHeld(by: vcpu) else { continue }
        findings.expect(
          page.flags.contains(.tscStable) == expected, at: [change, event],
          "bit 0 \(expected ? "set" : "clear") in vcpu\(vcpu)'s record",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      default: continue
      }
    }
    return findings.outcome(atLeast: 3, "records and KVM_GET_CLOCK after the write", in: self)
  }
}
