/// How a guest turns TSC cycles into nanoseconds: shift the cycles, multiply, drop 32 bits.
///
/// The corresponding fields are `tsc_shift` and `tsc_to_system_mul`.
public struct TSCScale: Hashable, Sendable {
  /// Nanoseconds per shifted cycle, in units of 2^-32.
  public var multiplier: UInt32

  /// Binary places by which cycles are shifted left (right when negative) before multiplying.
  public var shift: Int8

  public init(multiplier: UInt32, shift: Int8) {
    self.multiplier = multiplier
    self.shift = shift
  }

  /// The nanoseconds that a guest computes for so many TSC cycles.
  ///
  /// The shift keeps 64 bits, the product all 96. A shift by 64 or more, which C leaves undefined
  /// and KVM never publishes, leaves nothing.
  ///
  /// Source: `pvclock_scale_delta()`.
  public func nanoseconds(cycles: UInt64) -> UInt64 {
    let shifted = cycles << Int(shift)
    let product = shifted.multipliedFullWidth(by: UInt64(multiplier))
    return product.high << 32 | product.low >> 32
  }
}

extension TSCScale {
  /// The scale that KVM publishes for a TSC of so many kHz; for 0 all is 0.
  ///
  /// Source: `kvm_guest_time_update()`, which asks `kvm_get_time_scale()` for 10^9 Hz.
  public init(tscKHz: UInt32) {
    self =
      Self(baseHz: UInt64(tscKHz) * 1000, scaledHz: 1_000_000_000)
      ?? Self(multiplier: 0, shift: 0)
  }

  /// The scale from a counter of `baseHz` to one of `scaledHz`.
  ///
  /// `nil` for 0 Hz, on which the kernel would not end, and where twice `scaledHz` overflows.
  /// Rounds down twice: the shifted frequency (exact for a TSC up to 16 GHz) and the quotient.
  ///
  /// Source: `kvm_get_time_scale()`.
  public init?(baseHz: UInt64, scaledHz: UInt64) {
    guard baseHz > 0, (1...UInt64.max / 2).contains(scaledHz) else { return nil }
    var base = baseHz
    var scaled = scaledHz
    var shift: Int8 = 0
    while base > scaled * 2 || base > UInt32.max {
      base >>= 1
      shift -= 1
    }
    while base <= scaled || scaled > UInt32.max {
      if scaled > UInt32.max || base > Int32.max {
        scaled >>= 1
      } else {
        base <<= 1
      }
      shift += 1
    }
    self.init(multiplier: UInt32(truncatingIfNeeded: (scaled << 32) / base), shift: shift)
  }

  /// The TSC frequency in kHz that a guest derives from the record; `nil` for multiplier 0.
  ///
  /// Below 0, the shift loses that many low bits; a hostile one leaves the result modulo 2^64.
  ///
  /// Source: `pvclock_tsc_khz()`.
  public var tscKHz: UInt64? {
    guard multiplier != 0 else { return nil }
    return ((1_000_000 << 32) / UInt64(multiplier)) >> Int(shift)
  }

  /// Whether the multiplier uses its highest bit, as KVM's always does.
  public var isNormalized: Bool {
    multiplier >= 1 << 31
  }

  /// The exact rate, free of the truncation in `nanoseconds(cycles:)`.
  public var nanosecondsPerCycle: BinaryFraction {
    BinaryFraction(significand: multiplier, exponent: Int(shift) - 32)
  }
}
