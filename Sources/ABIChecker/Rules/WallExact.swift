internal import PVClock

extension Rule {
  static let wallValueExact = Rule(
    "WALL-VALUE-EXACT",
    "With the master clock a wall clock record is CLOCK_REALTIME less kvmclock at one instant: nothing passes between the "
      + "readings of the two.",
    sources: [.commit("Linux 5d6d6a7d7e66 (6.7)")],
    method:
      "As WALL-VALUE, but kvmclock comes from the guest's record at TSCs that the host read beside CLOCK_MONOTONIC_RAW, which "
      + "is some ten nanoseconds wide, not some ten microseconds.",
    scenarios: [.wallClock],
    coverage: [.observations(4, "records with the master clock")],
    needs: [.masterClock]
  ) { timeline, findings in
    let spans = timeline.realtimeSpans
    for write in timeline.wallWrites {
      guard let record = write.record, let look = write.look,
        let epoch = timeline.exactEpoch(of: write, spans, &findings), isExpressible(epoch.allowed)
      else { continue }
      let value = Int128(record.epochNanoseconds)
      // Two clocks read one after the other are apart by no more than the write took.
      let isByTheWrite = abs(epoch.allowed.distance(to: value)) <= write.event.width
      findings.expect(
        value, in: epoch.allowed, limit: 50_000, at: epoch.events + [look.event],
        "sec * 10^9 + nsec at \(Hex(write.address))",
        why: "CLOCK_REALTIME less the time of the guest's record, at the TSCs around the write",
        fits: isByTheWrite)
    }
  }
}

extension Timeline {
  /// The epoch that a write has to give with the master clock. CLOCK_REALTIME less CLOCK_MONOTONIC_RAW, from the readings before and
  /// after; less kvmclock less CLOCK_MONOTONIC_RAW, from the record.
  fileprivate func exactEpoch(
    of write: WallWrite, _ spans: [RealtimeSpan], _ findings: inout Findings
  ) -> (allowed: Interval, events: [Event])? {
    guard
      let span = spans.first(where: { $0.first.index < write.index && write.index < $0.last.index }
      ),
      let reading = observations.first(where: {
        $0.index > write.index && $0.epoch == write.epoch && $0.page != nil
      }), reading.isStable, isTSC
    else {
      findings.lacks("no master clock: bit 0 is clear in the record, or the clocksource is not tsc")
      return nil
    }
    guard let page = reading.page, let offset = tscOffset(at: reading, on: write.machine) else {
      findings.lacks("the TSC offset of the vCPU is not known")
      return nil
    }
    let events = [span.first.event, write.event, span.last.event]
    guard let lead = lead(of: page, offset, over: events) else { return nil }
    let moved = spans.map(\.offset.width).max() ?? 0
    let slack = share(rateBound, of: events[0].elapsed(to: events[2]).upper) + rounding
    return (
      Interval(
        span.offset.lower - moved - lead.upper - slack,
        span.offset.upper + moved - lead.lower + slack), events + [reading.event]
    )
  }

  /// The TSC offset of the vCPU that read, if it is known.
  private func tscOffset(at reading: Observation, on machine: Int) -> UInt64? {
    guard let step = machines[machine].steps.first(where: { $0.index == reading.index }),
      step.after.isTSCOffsetCertain
    else { return nil }
    return step.after.tscOffset
  }

  /// Kvmclock less CLOCK_MONOTONIC_RAW. At the start of an event CLOCK_MONOTONIC_RAW was read before the TSC, at its end after it.
  func lead(
    of page: ClockPage, _ offset: UInt64, over events: [Event]
  ) -> Interval? {
    func lead(at moment: Instant) -> Int128? {
      let tsc = moment.tsc &+ offset
      // A record says nothing of the time before it.
      guard Int64(bitPattern: tsc &- page.tscTimestamp) >= 0 else { return nil }
      return Int128(page.systemTime(atTSC: tsc)) - Int128(moment.raw)
    }
    guard let lower = events.compactMap({ lead(at: $0.ended) }).max(),
      let upper = events.compactMap({ lead(at: $0.began) }).min(), lower <= upper + rounding
    else { return nil }
    return Interval(min(lower, upper), max(lower, upper))
  }
}
