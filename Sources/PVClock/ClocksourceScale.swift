/// How the host's TSC clocksource, and so `CLOCK_MONOTONIC_RAW`, turns cycles into nanoseconds.
///
/// The corresponding fields are `mult` and `shift` of `struct clocksource`.
public struct ClocksourceScale: Hashable, Sendable {
  /// Nanoseconds per cycle, in units of 2^-`shift`.
  public var multiplier: UInt32

  /// Binary places of the multiplier.
  public var shift: UInt8

  public init(multiplier: UInt32, shift: UInt8) {
    self.multiplier = multiplier
    self.shift = shift
  }

  /// The scale that Linux computes for a TSC clocksource of so many kHz; `nil` for 0.
  ///
  /// Source: `__clocksource_update_freq_scale()` with a 64-bit mask, hence 600 s.
  public init?(tscKHz: UInt32) {
    guard tscKHz > 0 else { return nil }
    self = Self.best(from: UInt64(tscKHz), to: 1_000_000, overMilliseconds: 600_000)
    while multiplier > UInt32.max - maximumAdjustment {
      multiplier >>= 1
      shift -= 1
    }
  }

  /// The exact rate: `CLOCK_MONOTONIC_RAW` keeps the fractions of a nanosecond.
  public var nanosecondsPerCycle: BinaryFraction {
    BinaryFraction(significand: multiplier, exponent: -Int(shift))
  }

  /// The 11 % by which NTP may change the multiplier.
  ///
  /// Source: `clocksource_max_adjustment()`.
  private var maximumAdjustment: UInt32 {
    UInt32(UInt64(multiplier) * 11 / 100)
  }

  /// The most exact scale whose product stays below 2^64 for so long; frequencies in kHz.
  ///
  /// Source: `clocks_calc_mult_shift()`.
  private static func best(from: UInt64, to: UInt64, overMilliseconds span: UInt64) -> Self {
    let spareBits = ((span * from) >> 32).leadingZeroBitCount - 32
    var shift: UInt64 = 32
    var multiplier = ((to << shift) + from / 2) / from
    while multiplier >> UInt64(spareBits) != 0, shift > 1 {
      shift -= 1
      multiplier = ((to << shift) + from / 2) / from
    }
    return Self(multiplier: UInt32(truncatingIfNeeded: multiplier), shift: UInt8(shift))
  }
}
