internal import ABIChecker

/// CLOCK_MONOTONIC_RAW as a straight line over the host's TSC.
///
/// Every event ties the two together at both ends: at its beginning CLOCK_MONOTONIC_RAW was read first and so lies below
/// the line, at its end it was read last and lies above. In each stretch of time the tightest pair counts, so a reading
/// that came late does not.
struct HostLine {
  private let base: Instant
  private let span: Double
  /// Nanoseconds of CLOCK_MONOTONIC_RAW per cycle, and at the base.
  private var slope: Double
  private var offset = 0.0
  /// How far the tightest pairs lie from the line at most, in nanoseconds.
  private(set) var error = 0.0

  init?(_ events: [Event], kHz: UInt32?) {
    guard let kHz, kHz > 0, let base = events.min(by: { $0.began.tsc < $1.began.tsc })?.began,
      let end = events.max(by: { $0.ended.tsc < $1.ended.tsc })?.ended, end.tsc > base.tsc
    else { return nil }
    self.base = base
    span = Double(end.tsc - base.tsc)
    slope = 1e6 / Double(kHz)
    // The first line straightens the distances that the second one is made of.
    for _ in 0..<2 {
      let points = tightest(events)
      guard let (start, tilt) = Self.fit(points) else { return nil }
      slope += tilt
      offset += start
      error = points.map { abs($0.y - start - tilt * $0.x) }.max() ?? 0
    }
  }

  /// The middle between the tightest bounds of each stretch, as the distance from the line so far.
  private func tightest(_ events: [Event]) -> [(x: Double, y: Double)] {
    let count = max(2, min(32, events.count / 8))
    var bounds = [(lower: Double, upper: Double)](
      repeating: (-.infinity, .infinity), count: count)
    func place(_ instant: Instant) -> (stretch: Int, distance: Double) {
      let share = Double(instant.tsc - base.tsc) / span
      return (
        min(count - 1, Int(share * Double(count))), raw(instant.raw) - raw(atTSC: instant.tsc)
      )
    }
    for event in events {
      let (first, below) = place(event.began)
      bounds[first].lower = max(bounds[first].lower, below)
      let (last, above) = place(event.ended)
      bounds[last].upper = min(bounds[last].upper, above)
    }
    return bounds.enumerated().compactMap { index, bound in
      guard bound.lower.isFinite, bound.upper.isFinite else { return nil }
      let middle = (Double(index) + 0.5) / Double(count) * span
      return (middle, (bound.lower + bound.upper) / 2)
    }
  }

  /// Least squares.
  private static func fit(_ points: [(x: Double, y: Double)]) -> (Double, Double)? {
    guard !points.isEmpty else { return nil }
    let count = Double(points.count)
    let x = points.reduce(0) { $0 + $1.x } / count
    let y = points.reduce(0) { $0 + $1.y } / count
    let square = points.reduce(0) { $0 + ($1.x - x) * ($1.x - x) }
    let product = points.reduce(0) { $0 + ($1.x - x) * ($1.y - y) }
    let slope = square > 0 ? product / square : 0
    return (y - slope * x, slope)
  }

  /// CLOCK_MONOTONIC_RAW at a host's TSC, in nanoseconds since the line's first event.
  func raw(atTSC tsc: UInt64) -> Double {
    offset + Double(Int64(bitPattern: tsc &- base.tsc)) * slope
  }

  /// The same scale for a reading of CLOCK_MONOTONIC_RAW itself.
  func raw(_ raw: UInt64) -> Double { Double(Int64(bitPattern: raw &- base.raw)) }
}
