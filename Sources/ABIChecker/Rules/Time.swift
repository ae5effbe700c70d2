internal import PVClock

// Section D of the catalogue: what the clock says.

extension Rule {
  static let time: [Rule] = [
    .clockBracket, .mulshiftExact, .mulshiftTSCKHz, .rateRaw, .monoVCPU, .systimeGlobalPair,
  ]

  static let clockBracket = Rule(
    "CLOCK-BRACKET",
    "A guest's reading lies between the KVM_GET_CLOCK before it and the one after it.",
    source:
      "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK (\"the exact kvmclock value seen by all VCPUs\")",
    method:
      "KVM_GET_CLOCK, a reading in the guest, KVM_GET_CLOCK. No slack in master-clock mode; without it a record "
      + "may run ahead by as long as the entry took that made it.",
    scenarios: [.registration], everywhere: true,
    faults: ["kvmclock_offset left out of the record", "vCPU 1's record 10 ms behind"]
  ) { timeline in
    var findings = Findings()
    let all = timeline.observations
    var nextClock: [Int?] = Array(repeating: nil, count: all.count)
    var next: Int?
    for at in all.indices.reversed() {
      nextClock[at] = next
      if all[at].vcpu == nil { next = at }
    }
    var previous: Observation?
    for (at, reading) in all.enumerated() {
      guard reading.vcpu != nil else {
        previous = reading
        continue
      }
      guard let before = previous, let after = nextClock[at].map({ all[$0] }),
        before.epoch == reading.epoch, after.epoch == reading.epoch,
        before.event.ended.raw <= reading.event.began.raw,
        reading.event.ended.raw <= after.event.began.raw
      else { continue }
      let mayStep = timeline.mayHaveNewPair(from: before.event, to: after.event)
      let passed = difference(after.value, before.value)
      let slack =
        reading.isStable && !mayStep ? 0 : timeline.drift(until: after) + timeline.rounding
      guard passed >= -slack else {
        findings.expect(
          false, at: [before.event, after.event],
          "KVM_GET_CLOCK at \(before.value) ns or above", seen: "\(after.value) ns after it")
        continue
      }
      let allowed = Interval(-slack, passed + reading.lead + slack)
      findings.expect(
        difference(reading.value, before.value), in: allowed, limit: Timeline.widestUseful,
        at: [before.event, reading.event, after.event],
        "vcpu\(reading.vcpu ?? 0)'s reading, counted from the KVM_GET_CLOCK before it,",
        why: "KVM_GET_CLOCK returned \(before.value) ns before and \(after.value) ns after")
    }
    return findings.outcome(atLeast: 4, "readings between two KVM_GET_CLOCK", in: timeline)
  }

  static let mulshiftExact = Rule(
    "MULSHIFT-EXACT",
    "tsc_to_system_mul and tsc_shift are what kvm_get_time_scale() makes of the vCPU's TSC frequency, to the bit, and "
      + "the multiplier is at least 2^31.",
    source: "arch/x86/kvm/x86.c, kvm_get_time_scale(); Linux 3ebcbd2244f5 (6.3)",
    method: "KVM_GET_TSC_KHZ of a fresh vCPU; compute the pair again.",
    scenarios: [.registration], everywhere: true,
    faults: ["multiplier one too large", "frequency 1 kHz, or 300 kHz, too high"]
  ) { timeline in
    var findings = Findings()
    for (event, page, rate) in timeline.pagesOfKnownRate {
      let expected = TSCScale(tscKHz: rate)
      findings.expect(
        page.scale == expected && page.scale.isNormalized, at: [event],
        "tsc_to_system_mul \(Hex(expected.multiplier)) and tsc_shift \(expected.shift) for \(rate) kHz",
        seen: "tsc_to_system_mul \(Hex(page.tscToSystemMultiplier)) and tsc_shift \(page.tscShift)")
    }
    return findings.outcome(
      atLeast: 2, "records of vCPUs whose TSC frequency is known", in: timeline)
  }

  static let mulshiftTSCKHz = Rule(
    "MULSHIFT-TSCKHZ",
    "A guest that derives its TSC's frequency from the record, as Linux does when it boots, gets what KVM_GET_TSC_KHZ "
      + "says, to the last place that the record has.",
    source:
      "arch/x86/kernel/pvclock.c, pvclock_tsc_khz(); arch/x86/kernel/kvmclock.c, kvm_get_tsc_khz()",
    method:
      "10^6 * 2^32 / tsc_to_system_mul, shifted by tsc_shift as the guest does it: to the left where that is negative, "
      + "which loses so many binary places.",
    scenarios: [.registration], everywhere: true,
    faults: ["frequency 300 kHz too high, or in whole MHz", "multiplier one too large"]
  ) { timeline in
    var findings = Findings()
    for (event, page, rate) in timeline.pagesOfKnownRate {
      let lost: Int128 = page.tscShift < 0 ? (1 << Int128(min(63, -Int(page.tscShift)))) - 1 : 0
      let allowed = Interval(Int128(rate) - max(1, lost), Int128(rate) + 1)
      let derived = page.scale.tscKHz.map { Int128($0) }
      findings.expect(
        derived.map(allowed.contains) ?? false, at: [event],
        "a TSC of \(allowed.lower) to \(allowed.upper) kHz by the record, \(rate) kHz by KVM_GET_TSC_KHZ",
        seen: derived.map { "\($0) kHz" } ?? "no frequency: the multiplier is 0")
    }
    return findings.outcome(
      atLeast: 2, "records of vCPUs whose TSC frequency is known", in: timeline)
  }

  static let monoVCPU = Rule(
    "MONO-VCPU",
    "On one vCPU, and as long as the host does not set it, the clock never goes back.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, field system_time (\"monotonic time\"); flags bit 0",
    method:
      "A million readings in a ring-3 loop, and every pair of readings that follow each other on a vCPU.",
    scenarios: [.schedclock], everywhere: true,
    faults: ["the restart of Linux 4.2", "a step back of 200 us in a loop of readings"]
  ) { timeline in
    var findings = Findings()
    var looped: UInt64 = 0
    for (index, event) in timeline.history.events.enumerated() {
      guard case .looped(_, let result) = event.action, result.unstable == 0,
        !timeline.loopsOnOldRecords.contains(index)
      else { continue }
      looped = looped.addingReportingOverflow(result.reads).partialValue
      findings.expect(
        result.backwards == 0, at: [event], "no step back in \(result.reads) readings",
        seen: describeSteps(result))
    }
    var last: [Int: Observation] = [:]
    for reading in timeline.observations {
      guard let vcpu = reading.vcpu else { continue }
      defer { last[vcpu] = reading }
      guard let before = last[vcpu], before.epoch == reading.epoch else { continue }
      let slack =
        before.lead
        + (!reading.isStable || !before.isStable
          || timeline.mayHaveNewPair(from: before.event, to: reading.event)
          ? timeline.drift(until: reading) + timeline.rounding : 0)
      let step = difference(reading.value, before.value)
      findings.expect(
        step >= -slack, at: [before.event, reading.event],
        "vcpu\(vcpu)'s clock at \(before.value) ns or above (less \(nanoseconds(slack)))",
        seen: "\(reading.value) ns, a step of \(nanoseconds(step))")
    }
    guard looped >= 100_000 || !findings.violations.isEmpty else {
      return .notTested(
        reason: timeline.observations.contains { $0.vcpu != nil && !$0.isStable }
          ? "only \(looped) readings in loops with PVCLOCK_TSC_STABLE_BIT; without it the clock is only near to monotone"
          : "only \(looped) readings in loops, needs 100000")
    }
    return findings.outcome(
      "loops and pairs of readings, \(looped) readings in loops", in: timeline)
  }

  static let systimeGlobalPair = Rule(
    "SYSTIME-GLOBAL-PAIR",
    "In master-clock mode all vCPUs' records hold one pair: the same system_time, the same tsc_timestamp less each "
      + "vCPU's TSC offset, the same multiplier and shift.",
    source: "arch/x86/kvm/x86.c, comment above pvclock_update_vm_gtod_copy()",
    method:
      "Look at vCPU 0's record, vCPU 1's, and vCPU 0's again; where the two of vCPU 0 agree, so must vCPU 1's.",
    scenarios: [.registration, .setClock], faults: ["vCPU 1's system_time 1 ns, or 100 ns, ahead"]
  ) { timeline in
    var findings = Findings()
    var offsets: [Int: UInt64] = [:]
    var newest = NewestPair()
    var looks: [Look] = []
    for event in timeline.history.events {
      _ = newest.take(event)
      if case .vmCreated = event.action { offsets = [:] }
      if case .tscOffset(let vcpu, let cycles) = event.action { offsets[vcpu] = cycles }
      if case .page(let vcpu, _, let page) = event.action {
        looks.append(
          Look(
            event: event, vcpu: vcpu, page: page, offset: offsets[vcpu],
            isNewest: newest.isHeld(by: vcpu) && newest.knowsTSCOffset(of: vcpu)))
      }
    }
    for (first, (middle, last)) in zip(looks, zip(looks.dropFirst(), looks.dropFirst(2))) {
      guard first.vcpu == last.vcpu, first.vcpu != middle.vcpu,
        (first.offset == nil) == (middle.offset == nil), first.base == last.base
      else { continue }
      guard [first, middle, last].allSatisfy({ $0.page.flags.contains(.tscStable) }) else {
        findings.lacks("the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
        continue
      }
      guard [first, middle, last].allSatisfy(\.isNewest) else {
        findings.lacks(
          "a vCPU was not entered after another one's first entry: its record may be old")
        continue
      }
      findings.expect(
        first.base == middle.base, at: [first.event, middle.event, last.event],
        "vcpu\(middle.vcpu)'s record, its TSC offset \(middle.offset ?? 0) taken off, as vcpu\(first.vcpu)'s: "
          + describe(first.base),
        seen: describe(middle.base))
    }
    return findings.outcome("records of one vCPU between two equal ones of another", in: timeline)
  }
}

/// The host's look at a record.
private struct Look {
  var event: Event
  var vcpu: Int
  var page: ClockPage
  var offset: UInt64?
  var isNewest: Bool

  /// The record without what is the vCPU's own.
  var base: ClockPage {
    var base = page
    base.version = 0
    base.flags = []
    base.tscTimestamp &-= offset ?? 0
    return base
  }
}

extension Timeline {
  /// The records of vCPUs whose TSC frequency, in kHz, is known and was never set.
  fileprivate var pagesOfKnownRate: [(event: Event, page: ClockPage, kHz: UInt32)] {
    var kHz: [Int: UInt32] = [:]
    var retuned: Set<Int> = []
    for event in history.events {
      if case .tscKHz(let vcpu, let value) = event.action { kHz[vcpu] = value }
      if case .setTSCKHz(let vcpu?, _, _) = event.action { retuned.insert(vcpu) }
    }
    return pages.compactMap { event, vcpu, page in
      guard !retuned.contains(vcpu), let rate = kHz[vcpu], rate > 0 else { return nil }
      return (event, page, rate)
    }
  }
}
