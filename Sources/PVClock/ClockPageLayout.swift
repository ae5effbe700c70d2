extension ClockPage {
  /// Reads the record from its 32 bytes in memory order; `nil` unless there are exactly 32.
  public init?(bytes: some Collection<UInt8>) {
    guard bytes.count == Self.size else { return nil }
    self.init(words: littleEndianWords(bytes))
  }

  /// Reads the record from its eight little-endian words in memory order; `nil` unless eight.
  public init?(words: [UInt32]) {
    guard words.count == Self.size / 4 else { return nil }
    self.init(
      version: words[0],
      pad0: words[1],
      tscTimestamp: UInt64(low: words[2], high: words[3]),
      systemTime: UInt64(low: words[4], high: words[5]),
      tscToSystemMultiplier: words[6],
      tscShift: Int8(truncatingIfNeeded: words[7]),
      flags: Flags(rawValue: UInt8(truncatingIfNeeded: words[7] >> 8)),
      pad: UInt16(truncatingIfNeeded: words[7] >> 16)
    )
  }

  /// The record's eight little-endian words in memory order.
  public var words: [UInt32] {
    [
      version,
      pad0,
      UInt32(truncatingIfNeeded: tscTimestamp),
      UInt32(truncatingIfNeeded: tscTimestamp >> 32),
      UInt32(truncatingIfNeeded: systemTime),
      UInt32(truncatingIfNeeded: systemTime >> 32),
      tscToSystemMultiplier,
      UInt32(UInt8(bitPattern: tscShift)) | UInt32(flags.rawValue) << 8 | UInt32(pad) << 16,
    ]
  }

  /// The record's 32 bytes in memory order.
  public var bytes: [UInt8] {
    littleEndianBytes(words)
  }
}
