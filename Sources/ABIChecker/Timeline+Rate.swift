// The rate of the TSC against CLOCK_MONOTONIC_RAW, measured from a history's own brackets.

extension Timeline {
  /// With a TSC clocksource both clocks count the same TSC: CLOCK_MONOTONIC_RAW's multiplier has at least 22 bits,
  /// so it is rounded by at most 2^-22 (238 ppb), and kvmclock's by less than 1 ppb. With another clocksource,
  /// Hyper-V's scaled TSC too, the two oscillators' ratio is measured from the ends of the history itself.
  static func rates(of history: History) -> [MeasuredRate] {
    if history.header.isInside { return [MeasuredRate(bounds: history.rateInside)] }
    let kHz = history.header.host.tscKHz ?? 0
    var clocksource = history.header.host.clocksource
    var rates: [MeasuredRate] = []
    var stretch: [Event] = []
    var start: UInt64 = 0
    func endStretch() {
      if clocksource == "tsc" {
        rates.append(MeasuredRate(bounds: Interval(-250, 250)))
      } else {
        // What began before the switch is no measure of what came after it.
        let events = stretch.filter { $0.began.raw >= start }
        rates.append(kHz > 0 ? rate(of: events[...], kHz) : .unknown)
      }
    }
    for event in history.events {
      if case .hostChanged("clocksource", let name, nil) = event.action {
        endStretch()
        (clocksource, stretch, start) = (name, [], event.ended.raw)
      } else {
        stretch.append(event)
      }
    }
    endStretch()
    return rates
  }

  /// A stretch during which one clocksource drove the host's clocks.
  struct MeasuredRate {
    var bounds: Interval
    var contradiction: String?

    static let unknown = MeasuredRate(bounds: Interval(-whole, whole))
  }

  private static func rate(of events: ArraySlice<Event>, _ kHz: UInt32) -> MeasuredRate {
    var bounds = Interval(0, 2 * whole)
    for first in events.prefix(16) {
      for last in events.suffix(16) {
        // Each pair of moments bounds the ratio by itself, however long the events took: CLOCK_MONOTONIC_RAW was
        // read outside of the TSC from a beginning to an end, and inside of it from an end to a beginning.
        if let least = ratio(first.began, last.ended, kHz, tick) {
          bounds.lower = max(bounds.lower, least)
        }
        if let most = ratio(first.ended, last.began, kHz, -tick) {
          bounds.upper = min(bounds.upper, most + 1)
        }
      }
    }
    guard bounds.lower > 0, bounds.upper < 2 * whole else { return .unknown }
    guard bounds.lower <= bounds.upper else {
      return MeasuredRate(
        bounds: MeasuredRate.unknown.bounds,
        contradiction: leap(in: events, fasterThan: bounds.upper, kHz))
    }
    return MeasuredRate(
      bounds: Interval(bounds.lower - whole - 250, bounds.upper - whole + 250))
  }

  /// Where the TSC went on by more than `rate`, the most that fits some other part of the same stretch.
  private static func leap(
    in events: ArraySlice<Event>, fasterThan rate: Int128, _ kHz: UInt32
  ) -> String? {
    var largest: (leap: Int128, from: Int, to: Int) = (late, 0, 0)
    for first in events.prefix(16) {
      for last in events.suffix(16) {
        let cycles = Int128(last.ended.tsc) - Int128(first.began.tsc)
        let raw = Int128(last.ended.raw) - Int128(first.began.raw) + tick
        let leap = cycles * 1_000_000 / Int128(kHz) - raw * rate / whole
        if raw > 0, leap > largest.leap { largest = (leap, first.number, last.number) }
      }
    }
    guard largest.to > 0 else { return nil }
    return
      "this host's TSC and CLOCK_MONOTONIC_RAW keep no one rate: from event \(largest.from) to \(largest.to) the "
      + "TSC gained \(nanoseconds(largest.leap)) more than it did elsewhere"
  }

  /// In a switch the kernel reads the old clocksource first and the new one later, and its clocks count nothing
  /// between: at most what the TSC counted more than they did from the event before to the event after.
  static func switches(
    in history: History, rate: Interval
  ) -> [(event: Event, lost: Int128)] {
    let kHz = Int128(history.header.host.tscKHz ?? 0)
    let events = history.events
    return events.indices.filter { events[$0].isClocksourceSwitch }.map { index in
      let after = events[(index + 1)...].first { $0.began.raw >= events[index].ended.raw }
      guard kHz > 0, index > 0, let after else { return (events[index], unknown) }
      let before = events[index - 1]
      let passed =
        max(0, Int128(after.began.tsc) - Int128(before.ended.tsc)) * 1_000_000 / kHz
      let counted = Int128(after.began.raw) - Int128(before.ended.raw)
      let slack = share(max(-rate.lower, rate.upper), of: passed) + 2 * tick
      return (events[index], max(0, passed - counted) + slack)
    }
  }

  /// Longer than anything lasts, and not so long that sums of it overflow.
  private static let unknown: Int128 = 1 << 80
  static let whole: Int128 = 1_000_000_000

  /// Who reads an hpet while another CPU does gets that one's answer, which is a few microseconds old, and brackets may be
  /// off by that: what is more is no matter of bad luck.
  private static let late: Int128 = 5_000

  /// The coarsest step of a clocksource that is not the TSC: acpi_pm's 279.4 ns; hpet's and Hyper-V's are finer.
  static let tick: Int128 = 280

  /// What the TSC's nominal frequency makes of the cycles, in 10^9 of CLOCK_MONOTONIC_RAW's nanoseconds.
  private static func ratio(
    _ from: Instant, _ to: Instant, _ kHz: UInt32, _ slack: Int128
  ) -> Int128? {
    let cycles = Int128(to.tsc) - Int128(from.tsc)
    let raw = Int128(to.raw) - Int128(from.raw) + slack
    guard cycles > 0, raw > 0 else { return nil }
    return cycles * 1_000_000 * whole / Int128(kHz) / raw
  }
}

extension Event {
  var isClocksourceSwitch: Bool {
    if case .hostChanged("clocksource", _, nil) = action { true } else { false }
  }
}
