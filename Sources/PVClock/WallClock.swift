/// The wall-clock record as it lies in guest memory: 12 bytes, packed, little endian.
///
/// The corresponding C type is `struct pvclock_wall_clock` (asm/pvclock-abi.h).
public struct WallClock: Hashable, Sendable {
  /// The record's length in bytes.
  public static let size = 12

  /// `version` at 0: even at rest, odd while the host writes.
  public var version: UInt32

  /// `sec` at 4: whole seconds from 1970 to the instant at which kvmclock was 0.
  public var seconds: UInt32

  /// `nsec` at 8: the nanoseconds beyond `seconds`; a host keeps them below 10^9.
  public var nanoseconds: UInt32

  public init(version: UInt32 = 0, seconds: UInt32 = 0, nanoseconds: UInt32 = 0) {
    self.version = version
    self.seconds = seconds
    self.nanoseconds = nanoseconds
  }
}

extension WallClock {
  /// Reads the record from its 12 bytes in memory order; `nil` unless there are exactly 12.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count == Self.size else { return nil }
    let words = littleEndianWords(bytes)
    self.init(version: words[0], seconds: words[1], nanoseconds: words[2])
  }

  /// The record's three little-endian words in memory order.
  public var words: [UInt32] {
    [version, seconds, nanoseconds]
  }

  /// The record's 12 bytes in memory order.
  public var bytes: [UInt8] {
    littleEndianBytes(words)
  }

  /// Nanoseconds from 1970 to the instant at which kvmclock was 0.
  ///
  /// No record overflows: the largest possible value is below 2^62.
  public var epochNanoseconds: UInt64 {
    UInt64(seconds) * 1_000_000_000 + UInt64(nanoseconds)
  }
}

/// Saved under the kernel's field names, every field as a plain number.
extension WallClock: Codable {
  private enum CodingKeys: String, CodingKey {
    case version
    case seconds = "sec"
    case nanoseconds = "nsec"
  }
}
