/// The slow, obvious model: a number as its binary digits, least significant first.
struct Bits: Equatable {
  var digits: [Bool]

  init(_ value: some UnsignedInteger & FixedWidthInteger) {
    digits = (0..<type(of: value).bitWidth).map { value >> $0 & 1 == 1 }
  }

  init(digits: [Bool]) {
    self.digits = digits
  }

  subscript(place: Int) -> Bool {
    place < digits.count && digits[place]
  }

  /// The number modulo 2^`width`, in exactly that many digits.
  func lowest(_ width: Int) -> Bits {
    Bits(digits: (0..<width).map { self[$0] })
  }

  /// Written with `places` zeros behind it, or without its last `-places` digits.
  func shifted(_ places: Int) -> Bits {
    places >= 0
      ? Bits(digits: Array(repeating: false, count: places) + digits)
      : Bits(digits: Array(digits.dropFirst(-places)))
  }

  /// Adds digit by digit with a carry; the result has room for it.
  func plus(_ other: Bits) -> Bits {
    var carry = 0
    var sum: [Bool] = []
    for place in 0...max(digits.count, other.digits.count) {
      let ones = (self[place] ? 1 : 0) + (other[place] ? 1 : 0) + carry
      sum.append(ones % 2 == 1)
      carry = ones / 2
    }
    return Bits(digits: sum)
  }

  /// The difference modulo 2^`width`: adds the complement and one.
  func minus(_ other: Bits, width: Int) -> Bits {
    let complement = Bits(digits: other.lowest(width).digits.map { !$0 })
    return plus(complement).plus(Bits(digits: [true])).lowest(width)
  }

  /// Multiplies as on paper: one shifted copy for each digit that is 1.
  func times(_ other: Bits) -> Bits {
    var product = Bits(digits: [])
    for place in other.digits.indices where other[place] {
      product = product.plus(shifted(place))
    }
    return product
  }

  /// Divides as on paper, rounding down.
  func divided(by divisor: Bits) -> Bits {
    let divisor = divisor.withoutLeadingZeros
    let width = divisor.digits.count + 1
    var remainder = Bits(digits: [])
    var quotient: [Bool] = []
    for digit in withoutLeadingZeros.digits.reversed() {
      remainder = Bits(digits: [digit] + remainder.digits).lowest(width)
      let fits = !remainder.isLess(than: divisor)
      quotient.append(fits)
      if fits {
        remainder = remainder.minus(divisor, width: width)
      }
    }
    return Bits(digits: quotient.reversed())
  }

  private var withoutLeadingZeros: Bits {
    Bits(digits: Array(digits.prefix((digits.lastIndex(of: true) ?? -1) + 1)))
  }

  func isLess(than other: Bits) -> Bool {
    for place in (0..<max(digits.count, other.digits.count)).reversed()
    where self[place] != other[place] {
      return other[place]
    }
    return false
  }

  /// The number modulo 2^64.
  var value: UInt64 {
    (0..<64).reduce(0) { self[$1] ? $0 | 1 << UInt64($1) : $0 }
  }
}
