/// A number that people read in hexadecimal: an address, an MSR, a register. Saved as "0x…".
public struct Hex: Hashable, Sendable, Codable, ExpressibleByIntegerLiteral,
  CustomStringConvertible
{
  public var value: UInt64

  public init(_ value: UInt64) { self.value = value }
  public init(_ value: UInt32) { self.value = UInt64(value) }
  public init(integerLiteral value: UInt64) { self.value = value }

  public var description: String { "0x" + String(value, radix: 16) }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard text.hasPrefix("0x"), !text.hasPrefix("0x+"),
      let value = UInt64(text.dropFirst(2), radix: 16)
    else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "not a hexadecimal number: \(text)")
    }
    self.value = value
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// Bytes of guest memory in the order of their addresses. Saved as one string of hexadecimal digits.
public struct HexBytes: Hashable, Sendable, Codable {
  public var bytes: [UInt8]

  public init(_ bytes: [UInt8]) { self.bytes = bytes }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let digits = Array(try container.decode(String.self).utf8)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(digits.count / 2)
    for pair in stride(from: 0, to: digits.count - digits.count % 2, by: 2) {
      guard let high = Self.nibble(digits[pair]), let low = Self.nibble(digits[pair + 1]) else {
        break
      }
      bytes.append(high << 4 | low)
    }
    guard bytes.count * 2 == digits.count else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "not an even number of hexadecimal digits")
    }
    self.bytes = bytes
  }

  public func encode(to encoder: any Encoder) throws {
    let digits = Array("0123456789abcdef".utf8)
    var container = encoder.singleValueContainer()
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    try container.encode(String(decoding: text, as: UTF8.self))
  }

  private static func nibble(_ digit: UInt8) -> UInt8? {
    Character(Unicode.Scalar(digit)).hexDigitValue.map { UInt8($0) }
  }
}
