internal import PVClock

// What a migration rests on: the clock, CLOCK_REALTIME and the host's TSC at one instant.

extension Rule {
  static let oneInstant: [Rule] = [.getclockOneInstant, .setclockOneInstant]

  static let getclockOneInstant = Rule(
    "GETCLOCK-ONE-INSTANT",
    "realtime and host_tsc of one KVM_GET_CLOCK are of one instant: realtime is CLOCK_REALTIME when the host's TSC was "
      + "host_tsc.",
    sources: [
      .api("4.29 KVM_GET_CLOCK (\"the instant when KVM_GET_CLOCK was called\")"),
      .commit("Linux c68dc1b577ea (5.16)"),
    ],
    method:
      "Convert host_tsc to CLOCK_MONOTONIC_RAW by readings of both side by side, and to CLOCK_REALTIME by readings of that "
      + "before and after the call. That is some ten nanoseconds wide; the call is as wide as a system call. Often, and at the turn of a second.",
    scenarios: [.oneInstant, .turnOfSecond],
    coverage: [.observations(16, "results of KVM_GET_CLOCK")],
    needs: [.masterClock, .clockDetails]
  ) { timeline, findings in
    let spans = timeline.realtimeSpans
    for (index, event) in timeline.history.events.enumerated() {
      guard case .getClock(let record) = event.action else { continue }
      guard record.hasRealtime, record.hasHostTSC, timeline.isTSC else {
        findings.lacks(
          "KVM_GET_CLOCK returned flags \(Hex(record.flags)): realtime is 4, host_tsc is 8; or the clocksource is not tsc"
        )
        continue
      }
      findings.expectRealtime(
        Int128(record.realtime), atTSC: record.hostTSC, by: spans, in: timeline, at: index,
        "realtime of KVM_GET_CLOCK with host_tsc \(record.hostTSC)")
    }
  }

  static let setclockOneInstant = Rule(
    "SETCLOCK-ONE-INSTANT",
    "With KVM_CLOCK_REALTIME, KVM_SET_CLOCK ties the clock to CLOCK_REALTIME at one instant: in the best of many calls "
      + "less passes between the readings of the two than the fastest whole KVM_GET_CLOCK takes.",
    sources: [
      .api("4.30 KVM_SET_CLOCK (\"The difference in elapsed time is added\")"),
      .commit("Linux c68dc1b577ea (5.16)"),
    ],
    method:
      "Set the clock with a realtime of a millisecond ago; a vCPU reads its record. The clock less CLOCK_REALTIME follows "
      + "from the record at TSCs read beside CLOCK_MONOTONIC_RAW, and from CLOCK_REALTIME before and after the call. An "
      + "interruption in the middle of a call shows in that call only, so the least error of all calls is judged. "
      + "KVM_GET_CLOCK reads the clock, CLOCK_REALTIME and the TSC, and is a whole system call besides.",
    scenarios: [.oneInstant],
    coverage: [
      .count(16, "settings with a realtime"), .observations(1, "least errors of all settings"),
    ], needs: [.masterClock, .clockDetails]
  ) { timeline, findings in
    let fastest = timeline.history.events.compactMap { event -> Int128? in
      if case .getClock(let record) = event.action, record.hasRealtime { event.width } else { nil }
    }.min()
    guard let fastest else {
      return findings.lacks("no KVM_GET_CLOCK returned a realtime (4)")
    }
    let errors = timeline.settingErrors(&findings)
    guard let best = errors.min(by: { abs($0.least) < abs($1.least) }) else { return }
    let narrowest = errors.map(\.error.width).min() ?? 0
    findings.detail =
      "\(errors.count) settings, errors known to \(nanoseconds(narrowest)) at best"
    guard narrowest <= 50_000 else {
      return findings.cannotTell(
        "errors of KVM_SET_CLOCK: known to \(nanoseconds(narrowest)) at best, more than 50 us says nothing"
      )
    }
    findings.expect(
      best.least, in: Interval(-fastest, fastest), at: best.events,
      "the least error of \(errors.count) settings, the clock less the value set and less what CLOCK_REALTIME counted since "
        + "realtime,",
      why: "the fastest whole KVM_GET_CLOCK took \(nanoseconds(fastest))")
  }
}

extension Findings {
  /// A time that is CLOCK_REALTIME when the host's TSC was `tsc`, by the span of CLOCK_REALTIME that the event at `index` lies in.
  ///
  /// - Returns: whether it counted.
  @discardableResult
  mutating func expectRealtime(
    _ value: Int128, atTSC tsc: UInt64, by spans: [RealtimeSpan], in timeline: Timeline,
    at index: Int, _ what: String
  ) -> Bool {
    let moved = spans.map(\.offset.width).max() ?? 0
    guard let span = spans.first(where: { $0.first.index < index && index < $0.last.index }) else {
      return false
    }
    let events = [span.first.event, timeline.history.events[index], span.last.event]
    guard let raw = timeline.raw(atTSC: tsc, by: events) else { return false }
    return expect(
      value,
      in: Interval(raw.lower + span.offset.lower - moved, raw.upper + span.offset.upper + moved),
      limit: 50_000, at: events, what, why: "CLOCK_REALTIME at that TSC")
  }
}

/// By how much a setting with a realtime missed its instant.
private struct SettingError {
  var error: Interval
  var events: [Event]

  /// What the error is at least.
  var least: Int128 { 0 - error.distance(to: 0) }
}

extension Timeline {
  fileprivate func settingErrors(_ findings: inout Findings) -> [SettingError] {
    let spans = realtimeSpans
    let moved = spans.map(\.offset.width).max() ?? 0
    return settings.compactMap { setting in
      let record = setting.record
      guard record.hasRealtime,
        let span = spans.first(where: {
          $0.first.index < setting.index && setting.index < $0.last.index
        }),
        // A realtime to come leaves the value as it is.
        Int128(span.first.event.began.raw) + span.offset.lower - moved > Int128(record.realtime),
        let reading = setting.first.first(where: { $0.page != nil })
      else { return nil }
      guard reading.isStable, isTSC, let page = reading.page, let offset = reading.tscOffset else {
        findings.lacks(
          "no master clock: bit 0 is clear in the record, the clocksource is not tsc, or the TSC offset is not known"
        )
        return nil
      }
      let events = [setting.event, span.last.event]
      guard let lead = lead(of: page, offset, over: events) else { return nil }
      findings.count("settings with a realtime")
      // Clock less CLOCK_REALTIME, against the value set less realtime.
      let target = Int128(record.clock) - Int128(record.realtime)
      let slack = share(rateBound, of: events[0].elapsed(to: events[1]).upper) + rounding
      return SettingError(
        error: Interval(
          lead.lower - span.offset.upper - moved - slack - target,
          lead.upper - span.offset.lower + moved + slack - target),
        events: [span.first.event, setting.event, span.last.event, reading.event])
    }
  }

  /// CLOCK_MONOTONIC_RAW at a TSC, from moments at which both were read: at the start of an event CLOCK_MONOTONIC_RAW was
  /// read before the TSC, at its end after it.
  func raw(atTSC tsc: UInt64, by events: [Event]) -> Interval? {
    guard let kHz = history.header.host.tscKHz, kHz > 0 else { return nil }
    let scale = TSCScale(tscKHz: kHz)
    func raw(from moment: Instant) -> (at: Int128, slack: Int128) {
      let isLater = tsc >= moment.tsc
      let since = Int128(
        scale.nanoseconds(cycles: isLater ? tsc &- moment.tsc : moment.tsc &- tsc))
      return (
        Int128(moment.raw) + (isLater ? since : -since), share(rateBound, of: since) + rounding
      )
    }
    let lower = events.map { raw(from: $0.began) }.map { $0.at - $0.slack }.max() ?? 0
    let upper = events.map { raw(from: $0.ended) }.map { $0.at + $0.slack }.min() ?? 0
    return Interval(min(lower, upper), max(lower, upper))
  }
}
