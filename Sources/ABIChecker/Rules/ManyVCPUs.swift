// More vCPUs than fit in one page of records, up to as many as KVM takes.

extension Rule {
  static let manyVCPUs: [Rule] = [.manyVCPUsRegister, .manyVCPUsOrder, .manyVCPUsSetclock]

  private static let source =
    "Documentation/virt/kvm/api.rst, KVM_CAP_MAX_VCPUS; Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW"

  static let manyVCPUsRegister = Rule(
    "MANY-VCPUS-REGISTER",
    "However many vCPUs a VM has, up to KVM_CAP_MAX_VCPUS, each one's registration is served before its next instruction.",
    source: source,
    method:
      "Each of 65 vCPUs, or of as many as asked for, registers a record and reads it without an exit between.",
    scenarios: [.many],
    faults: ["one vCPU's kvm_write_system_time() requests no update: its record stays as it was"]
  ) { timeline in
    var findings = Findings()
    var served: Set<Int> = []
    for (write, read) in timeline.writesWithRead {
      guard case .vcpu(let vcpu) = write.actor,
        case .read(_, _, let reading, let settled) = read.action
      else { continue }
      let page = reading.page
      served.insert(vcpu)
      findings.expect(
        settled && page.version > 0 && page.version % 2 == 0 && page.scale.isNormalized,
        at: [write, read],
        "vcpu\(vcpu) to read an even version above 0 and a multiplier of at least 2^31",
        seen: describe(page))
    }
    return timeline.outcome(findings, "registrations", ofAll: served)
  }

  static let manyVCPUsOrder = Rule(
    "MANY-VCPUS-ORDER",
    "However many vCPUs read the clock one after another, each reads no less than the one before it; without the master "
      + "clock, no less than that less what the record before ran ahead.",
    source: source + ", flags bit 0",
    method: "One vCPU after another registers and reads, and again in the opposite order.",
    scenarios: [.many],
    faults: ["one vCPU's record made from a pair that is 20 us older than the others'"]
  ) { timeline in
    var findings = Findings()
    var readers: Set<Int> = []
    var last: Observation?
    for reading in timeline.observations {
      guard let vcpu = reading.vcpu else { continue }
      defer { last = reading }
      guard let before = last, before.vcpu != vcpu, before.epoch == reading.epoch,
        before.event.ended.raw <= reading.event.began.raw
      else { continue }
      readers.formUnion([vcpu, before.vcpu ?? vcpu])
      let isExact =
        before.isStable && reading.isStable
        && !timeline.mayHaveNewPair(from: before.event, to: reading.event)
      let slack = before.lead + (isExact ? 0 : timeline.drift(until: reading) + timeline.rounding)
      findings.expect(
        difference(reading.value, before.value) >= -slack, at: [before.event, reading.event],
        "vcpu\(vcpu)'s reading at or above vcpu\(before.vcpu ?? 0)'s \(before.value) ns"
          + (slack > 0 ? " less \(nanoseconds(slack))" : ""),
        seen: "\(reading.value) ns")
    }
    return timeline.outcome(findings, "readings after another vCPU's", ofAll: readers)
  }

  static let manyVCPUsSetclock = Rule(
    "MANY-VCPUS-SETCLOCK",
    "However many vCPUs a VM has, one KVM_SET_CLOCK sets the clock of every one of them.",
    source: source + "; Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK",
    method: "Set the clock once; each vCPU enters and reads the value plus the time since.",
    scenarios: [.many],
    faults: ["KVM_SET_CLOCK requests no update on the vCPU with the highest id"]
  ) { timeline in
    var findings = Findings()
    var reached: Set<Int> = []
    var setting: (event: Event, value: UInt64)?
    var next = 0
    for (index, event) in timeline.history.events.enumerated() {
      if case .vmCreated = event.action { setting = nil }
      if case .setClock(let record) = event.action {
        setting = record.hasRealtime ? nil : (event, record.clock)
        reached = []
      }
      while next < timeline.observations.count, timeline.observations[next].index == index {
        let reading = timeline.observations[next]
        next += 1
        guard let (set, value) = setting, let vcpu = reading.vcpu, !reached.contains(vcpu),
          set.ended.raw <= reading.event.began.raw
        else { continue }
        let narrow = findings.observed
        findings.expect(
          difference(reading.value, value), in: timeline.allowedAdvance(from: set, to: reading),
          limit: Timeline.widestUseful, at: [set, reading.event],
          "vcpu\(vcpu)'s reading less the value set (\(value) ns)",
          why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
        if findings.observed > narrow { reached.insert(vcpu) }
      }
    }
    return timeline.outcome(findings, "readings after the setting", ofAll: reached)
  }
}

extension Timeline {
  /// What a reading may show, less the value that the clock was set to, without the real time.
  func allowedAdvance(from set: Event, to reading: Observation) -> Interval {
    let elapsed = set.elapsed(to: reading.event)
    let slack = share(rateBound, of: elapsed.upper) + rounding
    return Interval(max(0, elapsed.lower - slack), elapsed.upper + slack + reading.lead)
  }

  /// Holds if every vCPU that the history made is among `seen`.
  fileprivate func outcome(_ findings: Findings, _ what: String, ofAll seen: Set<Int>) -> Outcome {
    var made: Set<Int> = []
    for event in history.events {
      if case .vcpuCreated(let vcpu) = event.action { made.insert(vcpu) }
    }
    let all = made.isSubset(of: seen)
    return findings.outcome(
      atLeast: all || !findings.violations.isEmpty ? 1 : .max,
      "\(what), \(seen.count) of \(made.count) vCPUs", in: self)
  }
}
