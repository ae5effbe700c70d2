/// CLOCK_REALTIME just before and just after an event.
struct RealtimeBracket {
  var before: Event
  var after: Event
  var from: UInt64
  var to: UInt64
  /// A step of the clock between the two that would not have been noticed, in nanoseconds.
  var unnoticed: Int128
  /// How the clock was stepped between the two, if it was.
  var step: String?
}

extension Timeline {
  /// What the host read of CLOCK_REALTIME in the events before and after this one; nil if it did not.
  ///
  /// The clock may be stepped or slewed at any time. NTP slews by 500 ppm at most, and so does adjtime(); with
  /// adjtimex() the tick can be another tenth longer or shorter.
  func realtime(around index: Int) -> RealtimeBracket? {
    let events = history.events
    guard index > 0, index + 1 < events.count,
      case .hostClock("CLOCK_REALTIME", let from) = events[index - 1].action,
      case .hostClock("CLOCK_REALTIME", let to) = events[index + 1].action
    else { return nil }
    let (before, after) = (events[index - 1], events[index + 1])
    let elapsed = before.elapsed(to: after)
    let slew = share(110_000_000, of: elapsed.upper) + rounding
    let allowed = Interval(elapsed.lower - slew, elapsed.upper + slew)
    let advance = difference(to, from)
    let step =
      allowed.contains(advance)
      ? nil
      : "CLOCK_REALTIME was stepped by \(nanoseconds(allowed.distance(to: advance))) or more, around event "
        + "\(events[index].number)"
    return RealtimeBracket(
      before: before, after: after, from: from, to: to, unnoticed: allowed.width, step: step)
  }
}

extension Findings {
  /// A time that the kernel took from CLOCK_REALTIME during `event`.
  mutating func expectRealtime(
    _ value: UInt64, _ real: RealtimeBracket, at event: Event, _ what: String
  ) {
    if let step = real.step { return cannotTell(step) }
    expect(
      difference(value, real.from),
      in: Interval(-real.unnoticed, difference(real.to, real.from) + real.unnoticed),
      limit: Timeline.widestUseful, at: [real.before, event, real.after],
      "\(what) \(real.from) ns,", why: "CLOCK_REALTIME was \(real.to) ns after it")
  }
}
