internal import PVClock

extension Rule {
  static let rateRaw = Rule(
    "RATE-RAW",
    "KVM_GET_CLOCK and the guest's view of the clock both advance with CLOCK_MONOTONIC_RAW; what the two multipliers' "
      + "rounding makes of it is computed, not guessed.",
    source: "Linux 53fafdbb8b21 (5.5); arch/x86/kvm/x86.c, get_kvmclock_base_ns()",
    method:
      "Tight brackets of both clocks at both ends of a wait; the record converted at the host's own TSC.",
    scenarios: [.rate], since: "5.5",
    faults: ["frequency 1 kHz too high", "KVM_GET_CLOCK 5 ppm fast"]
  ) { timeline in
    var findings = Findings()
    for advance in timeline.rateAdvances {
      // What is wider tells too little. Without a TSC clocksource every reading is one of a device: some microseconds,
      // far more where the device is emulated.
      findings.expect(
        advance.seen, in: advance.allowed,
        limit: share(advance.countsTSC && timeline.isTSC ? 10_000 : 200_000, of: advance.raw.lower),
        at: advance.events, "the advance of \(advance.what)",
        why:
          "CLOCK_MONOTONIC_RAW advanced by \(nanoseconds(advance.raw.lower)) to \(nanoseconds(advance.raw.upper)), "
          + "predicted difference \(nanoseconds(advance.drift.lower)) to \(nanoseconds(advance.drift.upper))"
      )
    }
    return findings.outcome(atLeast: 2, "rates: " + timeline.rateReport, in: timeline)
  }
}

/// What a clock counted while CLOCK_MONOTONIC_RAW counted `raw`, and what it should have.
struct RateAdvance {
  var what: String
  var events: [Event]
  var raw: Interval
  /// The clock's advance less CLOCK_MONOTONIC_RAW's, as predicted.
  var drift: Interval
  var allowed: Interval
  var seen: Int128
  var countsTSC: Bool
}

/// A value of the clock tied closely to CLOCK_MONOTONIC_RAW.
private struct RateSample {
  var what: String
  var event: Event
  var value: UInt64
  /// Counts the TSC; without the master clock `KVM_GET_CLOCK` is CLOCK_MONOTONIC_RAW plus a constant.
  var countsTSC: Bool
}

extension Timeline {
  /// From the first sample of each of the two clocks to the last.
  var rateAdvances: [RateAdvance] {
    guard history.header.scenario == ScenarioName.rate.rawValue else { return [] }
    return [clockSamples, recordSamples].compactMap { samples in
      guard let first = samples.first, let last = samples.last else { return nil }
      let raw = Interval(
        Int128(last.event.began.raw) - Int128(first.event.ended.raw),
        Int128(last.event.ended.raw) - Int128(first.event.began.raw))
      guard raw.lower > 0 else { return nil }
      let drift = predictedDrift(over: raw, from: first, to: last)
      return RateAdvance(
        what: first.what, events: [first.event, last.event], raw: raw, drift: drift,
        allowed: Interval(
          raw.lower + drift.lower - rounding, raw.upper + drift.upper + rounding),
        seen: difference(last.value, first.value), countsTSC: first.countsTSC && last.countsTSC)
    }
  }

  /// `KVM_GET_CLOCK` inside tight brackets.
  fileprivate var clockSamples: [RateSample] {
    history.events.compactMap { event in
      guard case .getClock(let record) = event.action else { return nil }
      return RateSample(
        what: "KVM_GET_CLOCK", event: event, value: record.clock, countsTSC: record.isTSCStable)
    }
  }

  /// The guest's record, as long as its pair does not change, at the TSC of tight brackets around nothing.
  fileprivate var recordSamples: [RateSample] {
    var offset: UInt64 = 0
    var pages: [ClockPage] = []
    for event in history.events {
      if case .tscOffset(_, let cycles) = event.action { offset = cycles }
      if case .page(_, _, let page) = event.action { pages.append(page) }
    }
    // An update that brings the same pair changes nothing of the time: old kernels make one every 300 s.
    guard let page = pages.first, pages.allSatisfy({ $0.hasSamePair(as: page) }) else { return [] }
    return history.events.compactMap { event in
      guard case .tick = event.action else { return nil }
      return RateSample(
        what: "the guest's clock", event: event,
        value: page.systemTime(atTSC: event.began.tsc &+ offset), countsTSC: true)
    }
  }

  /// kvmclock's advance less CLOCK_MONOTONIC_RAW's, in nanoseconds.
  fileprivate func predictedDrift(
    over raw: Interval, from first: RateSample, to last: RateSample
  ) -> Interval {
    guard first.countsTSC || last.countsTSC else { return Interval(0, 0) }
    let drift = driftOfTSC(over: raw)
    guard first.countsTSC, last.countsTSC else {
      return Interval(min(0, drift.lower), max(0, drift.upper))
    }
    return drift
  }

  /// The same for a clock that counts the TSC: from both multipliers if CLOCK_MONOTONIC_RAW counts it too.
  func driftOfTSC(over raw: Interval) -> Interval {
    guard isTSC, let kHz = history.header.host.tscKHz,
      let rate = RateError.kvmclockVersusRaw(tscKHz: kHz),
      let shortest = UInt64(exactly: raw.lower), let longest = UInt64(exactly: raw.upper)
    else {
      return Interval(
        min(-share(-rate.lower, of: raw.lower), -share(-rate.lower, of: raw.upper)),
        max(share(rate.upper, of: raw.lower), share(rate.upper, of: raw.upper)))
    }
    let short = rate.drift(overNanoseconds: shortest)
    let long = rate.drift(overNanoseconds: longest)
    return Interval(min(short.lowerBound, long.lowerBound), max(short.upperBound, long.upperBound))
  }

  /// "KVM_GET_CLOCK +41 ppb ± 180, the guest's clock +44 ppb ± 60 of CLOCK_MONOTONIC_RAW, predicted +43 ppb".
  fileprivate var rateReport: String {
    let measured = [clockSamples, recordSamples].compactMap { samples -> String? in
      guard let first = samples.first, let last = samples.last else { return nil }
      let shortest = Int128(last.event.began.raw) - Int128(first.event.ended.raw)
      let longest = Int128(last.event.ended.raw) - Int128(first.event.began.raw)
      guard shortest > 0, longest > 0 else { return nil }
      let advance = difference(last.value, first.value)
      let twice = 2 * advance - shortest - longest
      let ppb = twice * 1_000_000_000 / (shortest + longest)
      let error = (longest - shortest + 2 * rounding) * 1_000_000_000 / (2 * shortest)
      return "\(first.what) \(ppb >= 0 ? "+" : "")\(ppb) ppb ± \(error)"
    }
    let kHz = isTSC ? history.header.host.tscKHz : nil
    let predicted = kHz.flatMap(RateError.kvmclockVersusRaw)
      .map { ", predicted \(Int($0.partsPerBillion.rounded())) ppb" }
    return measured.joined(separator: ", ") + " of CLOCK_MONOTONIC_RAW" + (predicted ?? "")
  }
}
