internal import PVClock

extension Rule {
  static let clockZeroAtVMCreate = Rule(
    "CLOCK-ZERO-AT-VM-CREATE",
    "The clock counts from 0 at KVM_CREATE_VM: not from the host's start, nor a vCPU's creation, nor a registration.",
    source: "arch/x86/kvm/x86.c, kvm_arch_init_vm(): kvmclock_offset = -get_kvmclock_base_ns()",
    method:
      "KVM_GET_CLOCK and guests' readings in new VMs: each is the time since KVM_CREATE_VM.",
    scenarios: [.clockStart],
    faults: [
      "kvm_arch_init_vm(): no offset, so that the clock starts at the host's uptime",
      "a history whose clock starts with the first vCPU, or with the registration",
    ]
  ) { timeline in
    var findings = Findings()
    var creation: Event?
    var next = 0
    for (index, event) in timeline.history.events.enumerated() {
      if case .vmCreated = event.action { creation = event }
      if case .setClock = event.action { creation = nil }
      while next < timeline.observations.count, timeline.observations[next].index == index {
        let observation = timeline.observations[next]
        next += 1
        guard let created = creation else { continue }
        let elapsed = created.elapsed(to: observation.event)
        let slack = timeline.drift(until: observation) + timeline.rounding
        findings.expect(
          Int128(observation.value),
          in: Interval(max(0, elapsed.lower - slack), elapsed.upper + slack + observation.lead),
          // KVM_CREATE_VM may take 30 ms; where in it the clock starts is left open.
          limit: created.width + Timeline.widestUseful, at: [created, observation.event],
          observation.name,
          why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_CREATE_VM")
      }
    }
    return findings.outcome(atLeast: 8, "values since KVM_CREATE_VM", in: timeline)
  }

  static let clockBracketNonMaster = Rule(
    "CLOCK-BRACKET-NONMASTER",
    "Outside master-clock mode, too, a guest's reading lies between the KVM_GET_CLOCK before it and the one after it; "
      + "its record may run ahead by the time between two reads of the host's clocks in the entry that made it.",
    source:
      "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK (\"KVM will try to make all VCPUs follow this clock\")",
    method:
      "The boot vCPU on the old MSR, or another clocksource: KVM_GET_CLOCK, a reading, KVM_GET_CLOCK. Ahead by no more "
      + "than the entry that made the record took, behind by nothing but the difference of two oscillators.",
    scenarios: [.getClockNoMaster], everywhere: true,
    faults: [
      "kvm_guest_time_update(): the monotonic clock as base (a history with a reading that is too low)",
      "a reading above the next KVM_GET_CLOCK by more than its entry took",
    ]
  ) { timeline in
    var findings = Findings()
    for (before, reading, after) in timeline.bracketedReadings {
      guard !before.isStable, !reading.isStable, !after.isStable else { continue }
      let slack = timeline.drift(until: after) + timeline.rounding
      findings.expect(
        difference(reading.value, before.value),
        in: Interval(-slack, difference(after.value, before.value) + reading.lead + slack),
        limit: Timeline.widestUseful, at: [before.event, reading.event, after.event],
        "vcpu\(reading.vcpu ?? 0)'s reading, counted from the KVM_GET_CLOCK before it,",
        why: "KVM_GET_CLOCK returned \(before.value) ns before and \(after.value) ns after")
    }
    return findings.outcome(
      atLeast: 5, "readings between two KVM_GET_CLOCK without the master clock", in: timeline)
  }
}

extension Timeline {
  /// Each reading of a guest with the `KVM_GET_CLOCK` before it and the one after it, in one epoch and apart in time.
  fileprivate var bracketedReadings:
    [(before: Observation, reading: Observation, after: Observation)]
  {
    var found: [(before: Observation, reading: Observation, after: Observation)] = []
    var previous: Observation?
    var waiting: [(before: Observation, reading: Observation)] = []
    for observation in observations {
      guard observation.vcpu == nil else {
        if let previous { waiting.append((previous, observation)) }
        continue
      }
      for (before, reading) in waiting
      where before.epoch == reading.epoch && reading.epoch == observation.epoch
        && before.event.ended.raw <= reading.event.began.raw
        && reading.event.ended.raw <= observation.event.began.raw
      {
        found.append((before, reading, observation))
      }
      (previous, waiting) = (observation, [])
    }
    return found
  }
}
