internal import PVClock

extension Rule {
  static let rateRaw = Rule(
    "RATE-RAW",
    "KVM_GET_CLOCK and the guest's clock both advance with CLOCK_MONOTONIC_RAW, but for the difference that the rounding "
      + "of the two multipliers makes, which is computed.",
    sources: [.commit("Linux 53fafdbb8b21 (5.5)"), .x86("get_kvmclock_base_ns()")],
    method:
      "Tight brackets of both clocks at both ends of a wait. The record is evaluated at the host's own TSC.",
    scenarios: [.rate],
    coverage: [
      .observations(2, "rates"), .each(["KVM_GET_CLOCK", "the guest's clock"], "clocks"),
    ], inside: [.observations(1, "rate of the guest's clock")]
  ) { timeline, findings in
    if let obstacle = timeline.rateObstacleInside { return findings.lacks(obstacle) }
    for advance in timeline.rateAdvances {
      // What is wider tells too little. Without a TSC clocksource every reading is one of a device: some microseconds,
      // far more where the device is emulated.
      let counts = findings.expect(
        advance.seen, in: advance.allowed,
        limit: share(advance.countsTSC && timeline.isTSC ? 10_000 : 200_000, of: advance.raw.lower),
        at: advance.events, "the advance of \(advance.what)",
        why:
          "CLOCK_MONOTONIC_RAW advanced by \(nanoseconds(advance.raw.lower)) to \(nanoseconds(advance.raw.upper)), "
          + "predicted difference \(nanoseconds(advance.drift.lower)) to \(nanoseconds(advance.drift.upper))",
        // Linux before 6.3 may count with a frequency from before the TSC's refinement.
        fits: abs(advance.allowed.distance(to: advance.seen))
          <= share(Timeline.mostUnrefined, of: advance.raw.upper))
      if counts { findings.cover(advance.what, of: "clocks") }
    }
    findings.detail = timeline.rateReport
  }

  static let rateNotNTP = Rule(
    "RATE-NOT-NTP",
    "NTP's slewing of the host's clocks does not reach kvmclock: it goes on with CLOCK_MONOTONIC_RAW.",
    sources: [.commit("Linux 53fafdbb8b21 (5.5)"), .x86("get_kvmclock_base_ns()")],
    method:
      "adjtimex(2) with 500 ppm; read, wait, write the other MSR or the same, read: from the master clock to none, without "
      + "it, and to a new pair of it. On a host without a master clock the wait without it is enough. CLOCK_MONOTONIC shows "
      + "that the slew took effect.",
    scenarios: [.slew],
    coverage: [
      .observations(3, "waits while NTP slewed the host's clocks"),
      .each(["without the master clock"], "waits"),
    ], needs: [.hostChange]
  ) { timeline, findings in
    var monotonic: (event: Event, value: UInt64)?
    for event in timeline.history.events {
      guard case .hostClock("CLOCK_MONOTONIC", let value) = event.action else { continue }
      defer { monotonic = (event, value) }
      guard let (earlier, before) = monotonic,
        let (from, to) = timeline.sharpestPair(from: earlier, to: event)
      else { continue }
      let elapsed = earlier.elapsed(to: event)
      let counted = difference(value, before)
      guard counted > elapsed.lower + share(Self.slewSeen, of: elapsed.lower) else {
        findings.lacks("CLOCK_MONOTONIC did not run 400 ppm faster than CLOCK_MONOTONIC_RAW")
        continue
      }
      guard counted > elapsed.upper + share(Self.slewSeen, of: elapsed.upper) else {
        findings.cannotTell(
          "CLOCK_MONOTONIC's readings, \(nanoseconds(elapsed.width)) wide, do not show the slew")
        continue
      }
      let allowed = timeline.allowedAdvance(from: from, to: to)
      let counts = findings.expect(
        difference(to.value, from.value), in: allowed,
        limit: share(Self.slewSeen, of: allowed.lower), at: [from.event, to.event],
        "the clock's advance",
        why: "the time that CLOCK_MONOTONIC_RAW counted; CLOCK_MONOTONIC counted "
          + "\(nanoseconds(counted)) from event \(earlier.number) to \(event.number)")
      if counts, !from.isStable, !to.isStable {
        findings.cover("without the master clock", of: "waits")
      }
    }
  }

  /// The part of the 500 ppm that has to be seen, in parts per billion. A clock that is slewed by it lies outside of an
  /// interval that is narrower than it.
  private static let slewSeen: Int128 = 400_000

  static let rateBoottime = Rule(
    "RATE-BOOTTIME",
    "Kvmclock counts the time that the host sleeps, as CLOCK_BOOTTIME does.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW, field system_time (\"including sleep time\")")],
    method:
      "Read the clock and CLOCK_BOOTTIME before and after a suspend of the host. The scenario only tests a suspend (pm_test "
      + "freezer), in which the host does not sleep, so `kvmclock run` reports this rule as not tested. It judges a history "
      + "in which CLOCK_BOOTTIME shows that the host slept.",
    scenarios: [.suspend], coverage: [.observations(1, "suspends in which the host slept")],
    needs: [.hostChange]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: Observation?
      var from: (event: Event, value: UInt64, reading: Observation)?
      var to: (event: Event, value: UInt64)?
      var isSuspended = false
      for step in machine.steps {
        switch step.event.action {
        case .hostChanged("suspend", _, nil): isSuspended = from != nil
        case .hostClock("CLOCK_BOOTTIME", let value) where isSuspended:
          to = (step.event, value)
        case .hostClock("CLOCK_BOOTTIME", let value):
          from = last.map { (step.event, value, $0) }
        default: break
        }
        for reading in step.observations {
          if let start = from, let end = to, start.reading.epoch == reading.epoch {
            findings.expectSleepCounted(from: start, to: end, at: reading, in: timeline)
          }
          if to != nil { (from, to, isSuspended) = (nil, nil, false) }
          last = reading
        }
      }
    }
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
  /// How far a TSC frequency from before the TSC's refinement may be off, in parts per billion.
  static let mostUnrefined: Int128 = 1_000_000

  /// From the first sample of each of the two clocks to the last, on one setting of the clock of one machine.
  var rateAdvances: [RateAdvance] {
    ratePairs.compactMap { first, last in
      let raw = Interval(
        Int128(last.event.began.raw) - Int128(first.event.ended.raw),
        Int128(last.event.ended.raw) - Int128(first.event.began.raw))
      // A bracket that ends before it began bounds nothing.
      guard raw.lower > 0, raw.lower <= raw.upper else { return nil }
      let drift = predictedDrift(over: raw, from: first, to: last)
      return RateAdvance(
        what: first.what, events: [first.event, last.event], raw: raw, drift: drift,
        allowed: Interval(
          raw.lower + drift.lower - rounding, raw.upper + drift.upper + rounding),
        seen: difference(last.value, first.value), countsTSC: first.countsTSC && last.countsTSC)
    }
  }

  private var ratePairs: [(first: RateSample, last: RateSample)] {
    guard isInside || history.header.scenario == ScenarioName.rate.rawValue else { return [] }
    return machines.flatMap { machine in
      let steps = machine.steps.filter { $0.machine.epoch == machine.steps.last?.machine.epoch }
      return [Self.clockSamples(steps), Self.recordSamples(steps)].compactMap { samples in
        samples.first.flatMap { first in samples.last.map { (first, $0) } }
      }
    }
  }

  /// `KVM_GET_CLOCK` inside tight brackets.
  private static func clockSamples(_ steps: [Step]) -> [RateSample] {
    steps.compactMap { step in
      guard case .getClock(let record) = step.event.action else { return nil }
      return RateSample(
        what: "KVM_GET_CLOCK", event: step.event, value: record.clock,
        countsTSC: record.isTSCStable)
    }
  }

  /// The guest's record, as long as its pair does not change, at the TSC of tight brackets around nothing.
  private static func recordSamples(_ steps: [Step]) -> [RateSample] {
    let looks = steps.compactMap { step -> (page: ClockPage, vcpu: VCPUState)? in
      guard case .page(0, _, let page) = step.event.action else { return nil }
      return (page, step.after)
    }
    // An update that brings the same pair changes nothing of the time: old kernels make one every 300 s.
    guard let (page, vcpu) = looks.last, looks.allSatisfy({ $0.page.hasSamePair(as: page) }),
      looks.allSatisfy({ $0.vcpu.isTSCOffsetCertain })
    else { return [] }
    return steps.compactMap { step in
      guard case .tick = step.event.action else { return nil }
      return RateSample(
        what: "the guest's clock", event: step.event,
        value: page.systemTime(atTSC: step.event.began.tsc &+ (vcpu.tscOffset ?? 0)),
        countsTSC: true)
    }
  }

  /// kvmclock's advance less CLOCK_MONOTONIC_RAW's, in nanoseconds.
  private func predictedDrift(
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
    guard isTSC, let rate = predictedRate,
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

  /// How much faster the record counts than CLOCK_MONOTONIC_RAW, where both count the TSC.
  private var predictedRate: RateDifference? {
    guard let kHz = history.header.host.tscKHz else { return nil }
    return isInside ? history.rateDifference : RateDifference.kvmclockVersusRaw(tscKHz: kHz)
  }

  /// "KVM_GET_CLOCK +41 ppb ± 180, the guest's clock +44 ppb ± 60 of CLOCK_MONOTONIC_RAW, predicted +43 ppb".
  fileprivate var rateReport: String {
    let measured = rateAdvances.map { advance in
      let (shortest, longest) = (advance.raw.lower, advance.raw.upper)
      let ppb = (2 * advance.seen - shortest - longest) * 1_000_000_000 / (shortest + longest)
      let error = (longest - shortest + 2 * rounding) * 1_000_000_000 / (2 * shortest)
      return "\(advance.what) \(ppb >= 0 ? "+" : "")\(ppb) ppb ± \(error)"
    }
    let predicted = (isTSC ? predictedRate : nil)
      .map { ", predicted \(Int($0.partsPerBillion.rounded())) ppb" }
    return measured.joined(separator: ", ") + " of CLOCK_MONOTONIC_RAW" + (predicted ?? "")
  }

  /// The two observations between two events that tell most of the clock's rate.
  fileprivate func sharpestPair(
    from start: Event, to end: Event
  ) -> (from: Observation, to: Observation)? {
    let between = observations.filter {
      start.number < $0.event.number && $0.event.number < end.number
    }
    func uncertainty(_ one: Observation, _ other: Observation) -> Int128 {
      let allowed = allowedAdvance(from: one, to: other)
      return allowed.width * 1_000_000_000 / max(1, allowed.lower)
    }
    var best: (from: Observation, to: Observation, uncertainty: Int128)?
    for (place, from) in between.enumerated() {
      for to in between[(place + 1)...] where from.epoch == to.epoch {
        let found = uncertainty(from, to)
        if found < best?.uncertainty ?? .max { best = (from, to, found) }
      }
    }
    return best.map { ($0.from, $0.to) }
  }
}

extension Findings {
  /// The clock advances by what CLOCK_MONOTONIC_RAW counted and by the time asleep, which CLOCK_BOOTTIME tells.
  fileprivate mutating func expectSleepCounted(
    from start: (event: Event, value: UInt64, reading: Observation),
    to end: (event: Event, value: UInt64), at reading: Observation, in timeline: Timeline
  ) {
    let awake = start.event.elapsed(to: end.event)
    let counted = difference(end.value, start.value)
    let slew = share(Timeline.mostSlew, of: awake.upper)
    let asleep = Interval(counted - awake.upper - slew, counted - awake.lower + slew)
    guard asleep.lower > Timeline.widestUseful else {
      return lacks(
        "the host did not sleep: CLOCK_BOOTTIME advanced by \(nanoseconds(counted)), CLOCK_MONOTONIC_RAW by "
          + "\(nanoseconds(awake.lower)) to \(nanoseconds(awake.upper))")
    }
    let allowed = timeline.allowedAdvance(from: start.reading, to: reading)
    expect(
      difference(reading.value, start.reading.value),
      in: Interval(allowed.lower + asleep.lower, allowed.upper + asleep.upper),
      at: [start.reading.event, start.event, end.event, reading.event],
      "the clock's advance over the suspend",
      why: "the time that CLOCK_MONOTONIC_RAW counted, and the time asleep by CLOCK_BOOTTIME")
  }
}
