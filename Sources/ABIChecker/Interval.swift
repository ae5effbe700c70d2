/// The values that the ABI allows, both ends included, in exact arithmetic.
public struct Interval: Hashable, Sendable {
  public var lower: Int128
  public var upper: Int128

  public init(_ lower: Int128, _ upper: Int128) {
    self.lower = lower
    self.upper = upper
  }

  public var width: Int128 { upper - lower }

  public func contains(_ value: Int128) -> Bool { lower <= value && value <= upper }

  /// How far `value` lies outside: negative below, positive above, 0 inside.
  public func distance(to value: Int128) -> Int128 {
    value < lower ? value - lower : value > upper ? value - upper : 0
  }

  func widened(by slack: Int128) -> Interval { Interval(lower - slack, upper + slack) }

  static func + (one: Interval, other: Interval) -> Interval {
    Interval(one.lower + other.lower, one.upper + other.upper)
  }
}

/// `later - earlier` of two 64-bit clocks that may wrap, as the nearest signed number.
func difference(_ later: UInt64, _ earlier: UInt64) -> Int128 {
  Int128(Int64(bitPattern: later &- earlier))
}

/// Parts per billion of a span, rounded up: what two rates that differ by so much can come apart by.
func share(_ partsPerBillion: Int128, of span: Int128) -> Int128 {
  span <= 0 ? 0 : (span * partsPerBillion + 999_999_999) / 1_000_000_000
}

extension Event {
  /// CLOCK_MONOTONIC_RAW that passed between the two ends of the bracket, in nanoseconds.
  var width: Int128 { Int128(ended.raw) - Int128(began.raw) }

  /// CLOCK_MONOTONIC_RAW from this event to a later one: the least and the most that can have passed.
  func elapsed(to later: Event) -> Interval {
    Interval(
      max(0, Int128(later.began.raw) - Int128(ended.raw)),
      max(0, Int128(later.ended.raw) - Int128(began.raw)))
  }
}
