internal import PVClock

// Histories that a process inside a guest recorded, from the record that its kernel's vDSO shows to all processes.
//
// They show no registration: the guest's kernel made it long before. "vcpu0" is the vCPU whose record was read; another
// actor is a CPU of the guest on which that record was read. Of the host nothing is known but what it gives the guest, so
// the header's host is the guest: its kernel, its clocksource, and the frequency with which its kernel counts the TSC.

extension Header {
  /// What stands for a scenario's name: no script of ours drives this machine.
  public static let insideScenario = "inside"

  public var isInside: Bool { scenario == Self.insideScenario }
}

extension Timeline {
  public var isInside: Bool { history.header.isInside }
}

extension History {
  /// The scale of the first record that was read.
  private var scaleInside: TSCScale? {
    events.lazy.compactMap { event -> TSCScale? in
      guard case .page(_, _, let page) = event.action, page.tscToSystemMultiplier != 0 else {
        return nil
      }
      return page.scale
    }.first
  }

  /// Where kvm-clock is the guest's clocksource, CLOCK_MONOTONIC_RAW is the clock under test. Then the TSC takes its place:
  /// its cycles since the first event, counted as the first record says.
  var onIndependentClock: History {
    guard header.isInside, header.host.clocksource != "tsc", let scale = scaleInside,
      let start = events.first?.began
    else { return self }
    func byTSC(_ instant: Instant) -> Instant {
      let cycles = Int128(instant.tsc) - Int128(start.tsc)
      let time = Int128(scale.nanoseconds(cycles: UInt64(truncatingIfNeeded: cycles.magnitude)))
      return Instant(
        tsc: instant.tsc,
        raw: UInt64(clamping: Int128(start.raw) + (cycles < 0 ? -time : time)))
    }
    var history = self
    for index in events.indices {
      history.events[index].began = byTSC(events[index].began)
      history.events[index].ended = byTSC(events[index].ended)
    }
    return history
  }

  /// How much faster the record counts than CLOCK_MONOTONIC_RAW, where the guest's kernel counts the TSC for it; nil where
  /// its frequency is not known.
  var rateDifference: RateDifference? {
    guard header.host.clocksource == "tsc", let kHz = header.host.tscKHz, let scale = scaleInside,
      let raw = ClocksourceScale(tscKHz: kHz)
    else { return nil }
    // The kernel takes its frequency from the record and rounds it down; a record of another one is not what it should be.
    return frequencyErrorInside == 0
      ? RateDifference(of: scale, versus: raw) : RateDifference.kvmclockVersusRaw(tscKHz: kHz)
  }

  /// By how much the record's TSC frequency is off the kernel's, in parts per million, rounded up; 0 where both are the same
  /// but for the rounding of each.
  var frequencyErrorInside: UInt64 {
    guard let kHz = header.host.tscKHz.map(UInt64.init), kHz > 0, let scale = scaleInside else {
      return 0
    }
    let derived = min(scale.tscKHz ?? 0, UInt64(UInt32.max))
    let error = max(derived, kHz) - min(derived, kHz)
    let lost: UInt64 = scale.shift < 0 ? 1 << UInt64(min(31, -Int(scale.shift))) - 1 : 0
    return error <= max(1, lost) ? 0 : (error * 1_000_000 + kHz - 1) / kHz
  }

  /// The same in parts per billion, rounded outward.
  var rateInside: Interval {
    guard let difference = rateDifference, difference.denominator > 0 else {
      return Interval(-1000, 1000)
    }
    let parts = Int128(difference.numerator) * 1_000_000_000 / Int128(difference.denominator)
    // More than twice as fast, or a clock that stands still: nothing follows from it.
    let most = Timeline.whole
    return Interval(max(-most, min(most, parts)) - 1, max(-most, min(most, parts)) + 1)
  }
}

extension Timeline {
  /// Within this KVM runs a guest at the host's TSC frequency without scaling: the default of kvm.ko's tsc_tolerance_ppm.
  private static let toleratedPPM: UInt64 = 250

  /// Why CLOCK_MONOTONIC_RAW tells nothing of the clock's rate, inside a guest; nil if it does.
  var rateObstacleInside: String? {
    guard isInside else { return nil }
    let host = history.header.host
    guard host.clocksource == "tsc" else {
      return host.clocksource == "kvm-clock"
        ? "the guest's clocksource is kvm-clock: CLOCK_MONOTONIC_RAW is the clock under test"
        : "the guest's clocksource is \(host.clocksource ?? "unknown"), not tsc"
    }
    guard host.tscKHz != nil else {
      return "the frequency with which the guest's kernel counts the TSC is not known"
    }
    let pages = self.pages.map(\.page)
    guard let first = pages.first else { return nil }
    let error = history.frequencyErrorInside
    guard error == 0 || error > Self.toleratedPPM else {
      return
        "the record's TSC frequency is \(error) ppm off the \(host.tscKHz ?? 0) kHz with which the guest's kernel counts: "
        + "a VM that was moved to another host keeps that host's frequency if it is within \(Self.toleratedPPM) ppm"
    }
    return pages.allSatisfy { $0.hasSamePair(as: first) }
      ? nil : "the host gave the record another pair meanwhile"
  }

  /// The TSC's frequency as the record has it, for figures.
  var kHzInside: UInt32? {
    guard isInside else { return nil }
    return history.header.host.tscKHz
      ?? pages.first?.page.scale.tscKHz.flatMap { UInt32(exactly: $0) }
  }

  /// From each look at the record to the next one that shows another pair.
  var changesInside: [(old: (event: Event, page: ClockPage), new: (event: Event, page: ClockPage))]
  {
    let looks = history.events.compactMap { event -> (event: Event, page: ClockPage)? in
      guard case .page(0, _, let page) = event.action else { return nil }
      return (event, page)
    }
    return zip(looks, looks.dropFirst()).filter { !$0.page.hasSamePair(as: $1.page) }
      .map { (old: $0, new: $1) }
  }

  /// How often a look at the record showed another version than the one before, or a reader without pause met a new one.
  var updatesInside: UInt64 {
    var updates: UInt64 = 0
    var last: UInt32?
    for event in history.events {
      switch event.action {
      case .page(0, _, let page):
        if let last, last != page.version { updates &+= 1 }
        last = page.version
      case .watched(_, _, _, let result): updates &+= max(1, result.versions) - 1
      default: continue
      }
    }
    return updates
  }

  /// How far a record may have come away from the host's CLOCK_MONOTONIC_RAW, whose multiplier nobody knows inside a
  /// guest: it is rounded by at most 2^-22, and the TSC frequency of the record by less than 1 kHz.
  func hostDriftInside(over elapsed: Int128) -> Interval {
    let perKHz = kHzInside.map { 1_000_000_000 / Int128(max(1, $0)) + 1 } ?? 1_000
    let most = share(250 + perKHz, of: elapsed)
    return Interval(-most, most)
  }
}

extension Findings {
  /// What each CPU of the guest is told. A bit that no CPU is told of may be what the VMM hides, which is its right; one
  /// that some CPUs are told of and others are not is wrong.
  mutating func expectLeavesInside(of timeline: Timeline) {
    // Without a record the leaves alone say nothing of the clock.
    guard timeline.lacking == nil else { return }
    let leaves = timeline.history.events.compactMap { event -> (Event, UInt64, UInt64)? in
      guard case .supportedCPUID(let function, let eax, _, _, _) = event.action else { return nil }
      return (event, function.value & 0xff, eax.value)
    }
    for (event, leaf, eax) in leaves where leaf == 0 {
      expect(
        eax & 0xff >= 1, at: [event], "leaf 0x40000000 to reach 0x40000001", seen: "eax \(Hex(eax))"
      )
    }
    let features = leaves.filter { $0.1 == 1 }
    for (bit, name): (UInt64, String) in [
      (0, "CLOCKSOURCE"), (3, "CLOCKSOURCE2"), (24, "CLOCKSOURCE_STABLE_BIT"),
    ] {
      guard let one = features.first(where: { $0.2 >> bit & 1 == 1 }) else {
        if !features.isEmpty {
          lacks("bit \(bit) (\(name)) is clear on every CPU: the VMM may hide it from this guest")
        }
        continue
      }
      for (event, _, eax) in features {
        expect(
          eax >> bit & 1 == 1, at: [one.0, event],
          "bit \(bit) (\(name)) of EAX in leaf 0x40000001 on \(event.actor), as on \(one.0.actor)",
          seen: "eax \(Hex(eax))")
      }
    }
  }

  /// Without a leaf that names the frequency nobody can say that a record's scale is right. But it is wrong if no frequency
  /// in whole kHz makes it.
  mutating func expectScaleOfSomeFrequency(in timeline: Timeline) {
    guard timeline.isInside, !timeline.namesFrequency else { return }
    for (event, _, page) in timeline.pages {
      let derived = min(page.scale.tscKHz ?? 0, UInt64(UInt32.max))
      let candidates = (derived > 5 ? derived - 5 : 1)...(derived + 5)
      let makes = candidates.contains { kHz in
        UInt32(exactly: kHz).map { TSCScale(tscKHz: $0) == page.scale } ?? false
      }
      guard !makes else { continue }
      expect(
        false, at: [event],
        "a pair that kvm_get_time_scale() computes from some frequency in whole kHz",
        seen:
          "tsc_to_system_mul \(Hex(page.tscToSystemMultiplier)) and tsc_shift \(page.tscShift), about \(derived) kHz"
      )
    }
    needFrequency(in: timeline)
  }

  mutating func needFrequency(in timeline: Timeline) {
    guard timeline.isInside, !timeline.namesFrequency, timeline.lacking == nil else { return }
    lacks("no CPUID leaf (0x40000010) names the TSC's frequency")
  }
}

extension Timeline {
  fileprivate var namesFrequency: Bool {
    history.events.contains { event in
      if case .tscKHz = event.action { true } else { false }
    }
  }
}

extension KnownDeviation {
  /// Inside a guest nobody knows the host's kernel: what some shipped kernel is known to do may be what was seen.
  static func ofSomeKernel(rule: String, _ outcome: Outcome) -> KnownDeviation? {
    guard case .broken(let violations) = outcome else { return nil }
    return table.first { entry in
      entry.rule == rule
        && (entry.bound == nil || violations.allSatisfy { $0.fitsDeviation == true })
    }
  }
}

/// What the record has to show for a reader inside a guest to tell something of updates.
let updatesOfRecord = "updates of the record by the host meanwhile"

extension Findings {
  /// Counts `updatesOfRecord`.
  mutating func needUpdates(in timeline: Timeline) {
    guard timeline.isInside else { return }
    count(updatesOfRecord, by: timeline.updatesInside)
    guard timeline.updatesInside == 0, timeline.lacking == nil,
      let start = timeline.history.events.first,
      let end = timeline.history.events.last
    else { return }
    let span = short(Int128(end.ended.raw) - Int128(start.began.raw))
    lacks("the host did not update the record in \(span)")
  }
}
