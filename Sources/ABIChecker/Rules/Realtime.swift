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
  /// By how much CLOCK_REALTIME and CLOCK_BOOTTIME may be slewed, in parts per billion: 500 ppm by NTP, as much by
  /// adjtime(), and a tenth by the tick of adjtimex().
  static let mostSlew: Int128 = 110_000_000

  /// CLOCK_REALTIME as the host read it in the events before and after this one; nil if it did not.
  ///
  /// The clock may be stepped or slewed at any time.
  func realtime(around index: Int) -> RealtimeBracket? {
    let events = history.events
    guard index > 0, index + 1 < events.count,
      case .hostClock("CLOCK_REALTIME", let from) = events[index - 1].action,
      case .hostClock("CLOCK_REALTIME", let to) = events[index + 1].action
    else { return nil }
    let (before, after) = (events[index - 1], events[index + 1])
    let elapsed = before.elapsed(to: after)
    let slew = share(Self.mostSlew, of: elapsed.upper) + rounding
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
  ///
  /// - Returns: whether it counted.
  @discardableResult
  mutating func expectRealtime(
    _ value: UInt64, _ real: RealtimeBracket, at event: Event, _ what: String
  ) -> Bool {
    if let step = real.step {
      cannotTell(step)
      return false
    }
    return expect(
      difference(value, real.from),
      in: Interval(-real.unnoticed, difference(real.to, real.from) + real.unnoticed),
      limit: Timeline.widestUseful, at: [real.before, event, real.after],
      "\(what) \(real.from) ns,", why: "CLOCK_REALTIME was \(real.to) ns after it")
  }
}
