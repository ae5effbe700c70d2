// Section I of the catalogue: INIT takes a vCPU's clock away, not the VM's time.

extension Rule {
  static let initReset: [Rule] = [
    .initClearsSystime, .initFreezesPage, .initReregisterKeepsTime,
  ]

  static let initClearsSystime = Rule(
    "INIT-CLEARS-SYSTIME",
    "INIT resets a vCPU's system-time MSR to 0, as the guest and the host read it, through both MSR numbers.",
    source: "arch/x86/kvm/x86.c, kvm_vcpu_reset() and kvmclock_reset()",
    method:
      "A vCPU with a registered record gets INIT from another one; the host and then the guest read 0x12 and 0x4b564d01.",
    scenarios: [.initReset],
    faults: ["kvmclock_reset() leaves vcpu->arch.time as it was"]
  ) { timeline in
    var findings = Findings()
    var current: [Int: UInt64] = [:]
    var reset: [Int: Event] = [:]
    var readers: Set<String> = []
    func compare(_ vcpu: Int, _ msr: Hex, _ value: Hex, _ reader: String, _ event: Event) {
      guard MSR.isSystemTime(msr), let reset = reset[vcpu] else { return }
      readers.insert("\(reader) \(msr)")
      findings.expect(
        value == 0, at: [reset, event], "0 in vcpu\(vcpu)'s system-time MSR after INIT",
        seen: "\(value) read by the \(reader) through \(msr)")
    }
    for event in timeline.history.events {
      switch (event.action, event.actor) {
      case (.vmCreated, _): (current, reset) = ([:], [:])
      case (.replugged(let vcpu, let how), _):
        reset[vcpu] = isINIT(how) && (current[vcpu] ?? 0) & 1 == 1 ? event : nil
      case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
        (current[vcpu], reset[vcpu]) = (value.value, nil)
      case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
        (current[vcpu], reset[vcpu]) = (value.value, nil)
      case (.readMSR(let msr, let value, nil), .vcpu(let vcpu)):
        compare(vcpu, msr, value, "guest", event)
      case (.hostReadMSR(let vcpu, let msr, let value), _): compare(vcpu, msr, value, "host", event)
      default: continue
      }
    }
    guard readers.count == 4 || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "both MSRs read by the guest and by the host after INIT", in: timeline)
    }
    return findings.outcome(atLeast: 4, "readings of the MSR after INIT", in: timeline)
  }

  static let initFreezesPage = Rule(
    "INIT-FREEZES-PAGE",
    "After INIT KVM no longer writes the vCPU's record: the memory is the guest's again.",
    source: "arch/x86/kvm/x86.c, kvm_vcpu_reset() and kvmclock_reset()",
    method:
      "A vCPU gets INIT from another one; the host sets the clock and both enter; the record of the first keeps "
      + "every byte while the other's changes.",
    scenarios: [.initReset],
    faults: ["kvm_vcpu_reset() without kvmclock_reset(): the record is updated on"]
  ) { timeline in
    var findings = Findings()
    findings.expectFrozen(in: timeline) { how, _ in
      if case .reset(let reset) = how { reset.isINIT } else { false }
    }
    return findings.outcome("records of vCPUs that INIT has reset", in: timeline)
  }

  static let initReregisterKeepsTime = Rule(
    "INIT-REREGISTER-KEEPS-TIME",
    "A vCPU that registers again after INIT finds the clock where it would have been; any vCPU, not only vCPU 0.",
    source: "arch/x86/kvm/x86.c, kvmclock_reset(); broken for vCPU 0 by Linux b7e60c5aedd2 (4.2)",
    method: "Read, wait, INIT from another vCPU, register, read; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.initReset],
    faults: ["a registration after INIT restarts the clock at 0"]
  ) { timeline in
    var vcpus: Set<Int> = []
    let outcome = timeline.keepsTime(
      across: "registrations after INIT", atLeast: 2,
      why: "the time that CLOCK_MONOTONIC_RAW counted; INIT resets a vCPU and not the VM's clock"
    ) { event in
      guard case .replugged(let vcpu, let how) = event.action, isINIT(how) else { return nil }
      vcpus.insert(vcpu)
      return vcpu
    }
    if case .holds = outcome, vcpus.count < 2 {
      return .notTested(reason: "INIT reached only \(vcpus.sorted().map { "vcpu\($0)" })")
    }
    return outcome
  }
}

private func isINIT(_ how: Reset) -> Bool { how.isINIT }
