internal import PVClock

extension Rule {
  static let setclockExact = Rule(
    "SETCLOCK-EXACT",
    "In master-clock mode KVM_SET_CLOCK ties the value given to one moment within the call: the next record's "
      + "system_time is the value, and its tsc_timestamp less the vCPU's TSC offset is the host's TSC during the call.",
    source: "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK; Linux 77fcbe823f00 (5.12)",
    method:
      "Set the ends of the 64-bit range, values that wrap soon and seeded ones; each vCPU reads its record.",
    scenarios: [.setClockExact, .setClock],
    faults: [
      "kvm_vm_ioctl_set_clock(): the time of the call instead of the snapshot's (a system_time 55 us too low)",
      "kvm_vm_ioctl_set_clock(): no fresh snapshot (a tsc_timestamp from before the call)",
    ]
  ) { timeline in
    var findings = Findings()
    for setting in timeline.settings where !setting.record.hasRealtime {
      for reading in setting.first {
        guard let page = reading.page, let vcpu = reading.vcpu,
          !timeline.mayHaveNewPair(from: setting.event, to: reading.event)
        else { continue }
        guard reading.isStable else {
          findings.lacks(
            "the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
          continue
        }
        let events = [setting.event, reading.event]
        findings.expect(
          difference(page.systemTime, setting.record.clock), in: Interval(0, 0), at: events,
          "vcpu\(vcpu)'s system_time less the value set (\(setting.record.clock) ns)",
          why: "the value is the clock at the moment of tsc_timestamp")
        findings.expect(
          difference(reading.value, setting.record.clock),
          in: timeline.allowedAdvance(since: setting, at: reading),
          limit: Timeline.widestUseful, at: events,
          "vcpu\(vcpu)'s reading less the value set (\(setting.record.clock) ns)",
          why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
        guard let offset = timeline.tscOffset(of: vcpu, before: reading.index) else { continue }
        let (began, ended) = (setting.event.began.tsc, setting.event.ended.tsc)
        let taken = page.tscTimestamp &- offset
        findings.expect(
          taken &- began <= ended &- began, at: events,
          "vcpu\(vcpu)'s tsc_timestamp less its TSC offset in [\(began), \(ended)], the host's TSC before and after "
            + "KVM_SET_CLOCK",
          seen: "\(taken), \(Int128(taken) - Int128(began)) cycles after the first")
      }
    }
    return findings.outcome(atLeast: 16, "facts of records after settings", in: timeline)
  }

  static let setclockNonMaster = Rule(
    "SETCLOCK-NONMASTER",
    "Outside master-clock mode KVM_SET_CLOCK sets the clock as well: KVM_GET_CLOCK and every vCPU go on from the value "
      + "given, for any 64-bit value.",
    source:
      "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK; arch/x86/kvm/x86.c, kvm_vm_ioctl_set_clock()",
    method:
      "The boot vCPU on the old MSR, or another clocksource: set the ends of the range, KVM_GET_CLOCK, both vCPUs read.",
    scenarios: [.getClockNoMaster],
    faults: ["a clock that starts 1 ms below the value", "a vCPU that keeps the old clock"]
  ) { timeline in
    var findings = Findings()
    var byGuests = 0
    for setting in timeline.settings where !setting.record.hasRealtime {
      for first in setting.first where !first.isStable {
        let observed = findings.observed
        findings.expect(first, since: setting, in: timeline)
        if first.vcpu != nil { byGuests += findings.observed - observed }
      }
    }
    guard byGuests >= 8 || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "guests' readings after settings without the master clock", in: timeline)
    }
    return findings.outcome(
      atLeast: 12, "first values after settings, \(byGuests) of them guests' readings", in: timeline
    )
  }

  static let setclockFlags = Rule(
    "SETCLOCK-FLAGS",
    "KVM_SET_CLOCK refuses every flag but those that KVM_GET_CLOCK can return with EINVAL, and leaves the clock alone; "
      + "a kernel whose KVM_GET_CLOCK has no real time refuses all flags.",
    source: "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK; Linux c68dc1b577ea (5.16)",
    method:
      "Each of the 32 bits alone, and seeded combinations; KVM_GET_CLOCK before and after each call.",
    scenarios: [.setClockFlags],
    faults: [
      "kvm_vm_ioctl_set_clock(): flags are not checked", "another error than EINVAL",
      "a refused call that sets the clock", "KVM_CLOCK_TSC_STABLE refused",
    ]
  ) { timeline in
    var findings = Findings()
    var bits: Set<UInt32> = []
    guard let capability = timeline.clockFlagsCapability else {
      return .notTested(reason: timeline.lacking ?? "KVM_CAP_ADJUST_CLOCK was not read")
    }
    let known: UInt32 = capability > 1 && capability & 4 != 0 ? UInt32(capability) & 0xe : 0
    for (index, event) in timeline.history.events.enumerated() {
      switch event.action {
      case .setClock(let record):
        bits.insert(record.flags)
        findings.expect(
          record.flags & ~known == 0, at: [event],
          "EINVAL for flags \(Hex(record.flags)): KVM_CAP_ADJUST_CLOCK is \(capability)",
          seen: "the call succeeded")
      case .setClockRefused(let record, let error):
        bits.insert(record.flags)
        findings.expect(
          record.flags & ~known != 0 && error == .invalidArgument, at: [event],
          record.flags & ~known == 0
            ? "success for flags \(Hex(record.flags)): KVM_CAP_ADJUST_CLOCK is \(capability)"
            : "EINVAL for flags \(Hex(record.flags))", seen: error.description)
        guard let before = timeline.observations.last(where: { $0.index < index }),
          let after = timeline.observations.first(where: { $0.index > index }),
          before.epoch == after.epoch
        else { continue }
        findings.expect(
          difference(after.value, before.value),
          in: timeline.allowedAdvance(from: before, to: after),
          limit: Timeline.widestUseful, at: [before.event, event, after.event],
          "the clock to go on over the refused call from \(before.value) ns by an amount",
          why: "the time that CLOCK_MONOTONIC_RAW counted")
      default: continue
      }
    }
    let isWhole = (0..<32).allSatisfy { bits.contains(1 << $0) }
    guard isWhole || !findings.violations.isEmpty else {
      return findings.outcome(atLeast: .max, "each of the 32 flags alone", in: timeline)
    }
    return findings.outcome(
      atLeast: 60, "answers and what they did to the clock, \(bits.count) sets of flags",
      in: timeline)
  }

  static let setclockOtherFlagsIgnored = Rule(
    "SETCLOCK-OTHERFLAGS-IGNORED",
    "KVM_CLOCK_TSC_STABLE and KVM_CLOCK_HOST_TSC, with any host_tsc, change nothing of what KVM_SET_CLOCK does; nor does "
      + "realtime without its flag.",
    source:
      "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK (\"This field is ignored when …\"); Linux c68dc1b577ea (5.16)",
    method:
      "Set seeded values with the two flags, alone and together, a seeded host_tsc and a realtime.",
    scenarios: [.setClockFlags], since: "5.16",
    faults: ["a host_tsc that is taken for the moment of the value", "a realtime without its flag"]
  ) { timeline in
    var findings = Findings()
    for event in timeline.history.events {
      if case .setClockRefused(let record, let error) = event.action, record.flags == 8 {
        findings.lacks("KVM_SET_CLOCK refuses KVM_CLOCK_HOST_TSC: \(error)")
      }
    }
    for setting in timeline.settings
    where setting.record.flags & ~0xa == 0 && setting.record.flags != 0 {
      for first in setting.first { findings.expect(first, since: setting, in: timeline) }
    }
    return findings.outcome(atLeast: 12, "first values after settings with flags", in: timeline)
  }
}

extension Findings {
  /// What was read first after a setting without a real time: the value and the time since.
  mutating func expect(
    _ first: Observation, since setting: Setting, in timeline: Timeline
  ) {
    expect(
      difference(first.value, setting.record.clock),
      in: timeline.allowedAdvance(since: setting, at: first), limit: Timeline.widestUseful,
      at: [setting.event, first.event],
      "\(first.name) less the value set (\(setting.record.clock) ns, flags \(Hex(setting.record.flags)))",
      why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
  }
}

extension Timeline {
  /// The TSC offset that was noted last for a vCPU of the same machine.
  func tscOffset(of vcpu: Int, before index: Int) -> UInt64? {
    for event in history.events.prefix(index).reversed() {
      if case .vmCreated = event.action { return nil }
      if case .tscOffset(vcpu, let cycles) = event.action { return cycles }
    }
    return nil
  }
}
