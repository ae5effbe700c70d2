/// An exact rate, `significand` × 2^`exponent`, as clock scales are.
public struct BinaryFraction: Hashable, Sendable {
  public var significand: UInt32
  public var exponent: Int

  public init(significand: UInt32, exponent: Int) {
    self.significand = significand
    self.exponent = exponent
  }
}

extension BinaryFraction {
  /// The nearest `Double`, for people to read.
  public var approximation: Double {
    Double(sign: .plus, exponent: exponent, significand: Double(significand))
  }

  /// The product with `count` rounded down and up; `nil` when it does not fit 128 bits.
  public func multiplied(by count: UInt64) -> ClosedRange<UInt128>? {
    let product = UInt128(significand) * UInt128(count)
    if exponent >= 0 {
      guard product == 0 || product.leadingZeroBitCount >= exponent else { return nil }
      let exact = product << exponent
      return exact...exact
    }
    let floor = product >> exponent.magnitude
    let isExact = floor << exponent.magnitude == product
    return floor...(isExact ? floor : floor + 1)
  }
}
