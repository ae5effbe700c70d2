/// An observation beside the interval that it had to lie in, for people to look at.
public struct Measure: Hashable, Sendable, Codable {
  /// What was measured: "vcpu0's clock to go on from …".
  public var what: String
  /// The ends of the interval and the observation, in nanoseconds; what 64 bits cannot hold is cut off.
  public var lower: Int64
  public var upper: Int64
  public var value: Int64

  public init(what: String, lower: Int64, upper: Int64, value: Int64) {
    self.what = what
    self.lower = lower
    self.upper = upper
    self.value = value
  }

  init(_ value: Int128, in allowed: Interval, what: String) {
    self.init(
      what: what, lower: Int64(clamping: allowed.lower), upper: Int64(clamping: allowed.upper),
      value: Int64(clamping: value))
  }

  /// The distance from the nearest end, in nanoseconds; negative outside.
  public var slack: Int64 {
    let below = value.subtractingReportingOverflow(lower)
    let above = upper.subtractingReportingOverflow(value)
    return min(
      below.overflow ? .max : below.partialValue, above.overflow ? .max : above.partialValue)
  }

  /// Where the observation lies: 0 at the lower end of the interval and 1 at the upper one.
  public var position: Double {
    let width = Double(upper) - Double(lower)
    let distance = Double(value) - Double(lower)
    return width > 0 ? distance / width : value < lower ? -1 : value > upper ? 2 : 0.5
  }

  /// How near it lies to an end, as a share of the interval; negative outside.
  public var margin: Double { min(position, 1 - position) }
}
