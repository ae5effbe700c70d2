/// An exact relative difference of two rates: `numerator` / `denominator`, in lowest terms.
public struct RateDifference: Hashable, Sendable {
  public let numerator: Int64
  public let denominator: UInt64

  /// How much faster a record's scale counts than the raw clock, both of the same TSC.
  ///
  /// `nil` when the raw multiplier is 0 or the terms do not fit 64 bits; two scales made for one
  /// frequency always fit.
  public init?(of scale: TSCScale, versus raw: ClocksourceScale) {
    let places = Int(scale.shift) + Int(raw.shift) - 32
    guard raw.multiplier != 0, (-64...64).contains(places) else { return nil }
    let counted = Int128(scale.multiplier) << max(places, 0)
    let expected = Int128(raw.multiplier) << max(-places, 0)
    let divisor = Self.greatestCommonDivisor((counted - expected).magnitude, expected.magnitude)
    guard
      let numerator = Int64(exactly: (counted - expected) / Int128(divisor)),
      let denominator = UInt64(exactly: expected / Int128(divisor))
    else { return nil }
    self.numerator = numerator
    self.denominator = denominator
  }

  /// How much faster kvmclock runs than `CLOCK_MONOTONIC_RAW`, each of which rounds the TSC's rate, for a host TSC of so
  /// many kHz, without TSC scaling; `nil` for 0 kHz.
  ///
  /// At most 250 parts per billion for 1–5 GHz.
  ///
  /// Source: `kvm_get_time_scale()` against `clocks_calc_mult_shift()`.
  public static func kvmclockVersusRaw(tscKHz: UInt32) -> RateDifference? {
    guard let raw = ClocksourceScale(tscKHz: tscKHz) else { return nil }
    return RateDifference(of: TSCScale(tscKHz: tscKHz), versus: raw)
  }

  /// The difference in parts per billion, for people to read; positive when the record is fast.
  public var partsPerBillion: Double {
    Double(numerator) / Double(denominator) * 1e9
  }

  /// What the difference comes to after so many raw nanoseconds: rounded down and up, exactly.
  public func drift(overNanoseconds elapsed: UInt64) -> ClosedRange<Int128> {
    let product = Int128(numerator) * Int128(elapsed)
    let (quotient, remainder) = product.quotientAndRemainder(dividingBy: Int128(denominator))
    if remainder == 0 {
      return quotient...quotient
    }
    return remainder < 0 ? quotient - 1...quotient : quotient...quotient + 1
  }

  private static func greatestCommonDivisor(_ first: UInt128, _ second: UInt128) -> UInt128 {
    var (larger, smaller) = (first, second)
    while smaller != 0 {
      (larger, smaller) = (smaller, larger % smaller)
    }
    return larger
  }
}
