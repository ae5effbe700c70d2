internal import ABIChecker

/// CLOCK_MONOTONIC_RAW as a straight line over the host's TSC.
///
/// Every event ties the two together at both ends: at its beginning CLOCK_MONOTONIC_RAW was read first and so lies below
/// the line, at its end it was read last and lies above. In each stretch of time the tightest pair counts.
struct HostLine {
  private let base: Instant
  /// Nanoseconds of CLOCK_MONOTONIC_RAW per cycle.
  private let slope: Double
  private let offset: Double
  /// How far the tightest pairs lie from the line at most, in nanoseconds.
  let error: Double

  private static let stretches = 32

  init?(_ events: [Event], kHz: UInt32?) {
    guard let kHz, kHz > 0, let base = events.min(by: { $0.began.tsc < $1.began.tsc })?.began,
      let end = events.max(by: { $0.ended.tsc < $1.ended.tsc })?.ended, end.tsc > base.tsc
    else { return nil }
    let nominal = 1e6 / Double(kHz)
    let span = Double(end.tsc - base.tsc)
    var bounds = [(lower: Double, upper: Double)](
      repeating: (-.infinity, .infinity), count: Self.stretches)
    func place(_ instant: Instant) -> (stretch: Int, distance: Double) {
      let cycles = Double(instant.tsc - base.tsc)
      let raw = Double(Int64(bitPattern: instant.raw &- base.raw))
      return (min(Self.stretches - 1, Int(cycles / span * 32)), raw - cycles * nominal)
    }
    for event in events {
      let (first, below) = place(event.began)
      bounds[first].lower = max(bounds[first].lower, below)
      let (last, above) = place(event.ended)
      bounds[last].upper = min(bounds[last].upper, above)
    }
    let points = bounds.enumerated().compactMap { index, bound -> (x: Double, y: Double)? in
      guard bound.lower.isFinite, bound.upper.isFinite else { return nil }
      return ((Double(index) + 0.5) / 32 * span, (bound.lower + bound.upper) / 2)
    }
    guard let (a, b) = Self.fit(points) else { return nil }
    self.base = base
    self.slope = nominal + b
    self.offset = a
    self.error = points.map { abs($0.y - a - b * $0.x) }.max() ?? 0
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
