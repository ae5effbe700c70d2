internal import PVClock

// Section G of the catalogue: KVM_GET_CLOCK and KVM_SET_CLOCK.

extension Rule {
  static let clockIoctls: [Rule] = [.setclockSetsAllVCPUs, .getclockIsGuestView]

  static let setclockSetsAllVCPUs = Rule(
    "SETCLOCK-SETS-ALL-VCPUS",
    "KVM_SET_CLOCK sets one clock for the whole VM: at its next entry every vCPU reads the value given plus the time "
      + "since, for any 64-bit value, forward or backward, modulo 2^64.",
    source: "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK; Linux 77fcbe823f00 (5.12)",
    method:
      "Set 0, 1, 2^63, a value just below 2^64 and seeded ones; each vCPU reads. Reading less value is the "
      + "time since the ioctl.",
    scenarios: [.setClock], everywhere: true, since: "5.12",
    faults: [
      "KVM_SET_CLOCK does not take a new snapshot", "… reaches vCPU 0 only",
      "… keeps the old offset on vCPU 1",
    ]
  ) { timeline in
    var findings = Findings()
    var setting: (event: Event, value: UInt64)?
    var seenBy: Set<Int> = []
    var first: Observation?
    var complete = 0
    var next = 0
    for (index, event) in timeline.history.events.enumerated() {
      if case .setClock(let record) = event.action {
        // With a real time the value is not the one given.
        setting = record.hasRealtime ? nil : (event, record.clock)
        (seenBy, first) = ([], nil)
      }
      if case .vmCreated = event.action { setting = nil }
      while next < timeline.observations.count, timeline.observations[next].index == index {
        let reading = timeline.observations[next]
        next += 1
        // A guest that was running meanwhile may have read before the setting.
        guard let (set, value) = setting, let vcpu = reading.vcpu,
          set.ended.raw <= reading.event.began.raw, seenBy.insert(vcpu).inserted
        else { continue }
        let narrow = findings.observed
        let elapsed = set.elapsed(to: reading.event)
        let slack = share(timeline.rateBound, of: elapsed.upper) + timeline.rounding
        findings.expect(
          difference(reading.value, value),
          in: Interval(max(0, elapsed.lower - slack), elapsed.upper + slack + reading.lead),
          limit: Timeline.widestUseful, at: [set, reading.event],
          "vcpu\(vcpu)'s reading less the value set (\(value) ns)",
          why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
        guard findings.observed > narrow else { continue }
        if let first, first.event.ended.raw <= reading.event.began.raw {
          let exact =
            first.isStable && reading.isStable
            && !timeline.mayHaveNewPair(from: first.event, to: reading.event)
          let behind = first.lead + (exact ? 0 : timeline.drift(until: reading) + timeline.rounding)
          findings.expect(
            difference(reading.value, first.value) >= -behind, at: [first.event, reading.event],
            "vcpu\(vcpu)'s reading, made later, at or above vcpu\(first.vcpu ?? 0)'s \(first.value) ns",
            seen: "\(reading.value) ns")
          complete += 1
        }
        first = first ?? reading
      }
    }
    guard complete >= 4 || !findings.violations.isEmpty else {
      return findings.outcome(atLeast: .max, "readings after settings on two vCPUs", in: timeline)
    }
    return findings.outcome(atLeast: 8, "readings after settings, on every vCPU", in: timeline)
  }

  static let getclockIsGuestView = Rule(
    "GETCLOCK-IS-GUEST-VIEW",
    "In master-clock mode KVM_GET_CLOCK returns what the record gives at the host_tsc it returns, to 1 ns.",
    source: "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK; Linux c68dc1b577ea (5.16)",
    method:
      "The record before and after KVM_GET_CLOCK unchanged; convert it at host_tsc plus the vCPU's TSC offset.",
    scenarios: [.registration, .setClock, .rate], everywhere: true, since: "5.16",
    faults: ["KVM_GET_CLOCK 2 ns, or 50 ns, ahead"]
  ) { timeline in
    var findings = Findings()
    var offsets: [Int: UInt64] = [:]
    var newest = NewestPair()
    var last: [Int: (event: Event, page: ClockPage)] = [:]
    var waiting: [Int: [(event: Event, record: ClockRecord)]] = [:]
    for event in timeline.history.events {
      _ = newest.take(event)
      switch event.action {
      case .tscOffset(let vcpu, let cycles): offsets[vcpu] = cycles
      case .vmCreated, .setClock: (last, waiting) = ([:], [:])
      case .getClock(let record):
        guard record.isTSCStable, record.hasHostTSC else {
          findings.lacks(
            "KVM_GET_CLOCK returned flags \(Hex(record.flags)): no master clock (2) or no host_tsc (8)"
          )
          continue
        }
        for vcpu in last.keys { waiting[vcpu, default: []].append((event, record)) }
      case .page(let vcpu, _, let page):
        for (clock, record) in waiting.removeValue(forKey: vcpu) ?? [] {
          guard let before = last[vcpu], before.page == page, page.flags.contains(.tscStable),
            newest.isHeld(by: vcpu), newest.knowsTSCOffset(of: vcpu), let offset = offsets[vcpu]
          else { continue }
          let converted = page.systemTime(atTSC: record.hostTSC &+ offset)
          findings.expect(
            difference(record.clock, converted), in: Interval(-1, 1),
            at: [before.event, clock, event],
            "KVM_GET_CLOCK less vcpu\(vcpu)'s record at host_tsc (\(converted) ns)",
            why: "both are the same pair and the same multiplier")
        }
        last[vcpu] = (event, page)
      default: continue
      }
    }
    return findings.outcome(atLeast: 2, "results of KVM_GET_CLOCK against a record", in: timeline)
  }
}
