/// The 32-bit words that `bytes` hold, least significant byte first; a short tail is zero-extended.
func littleEndianWords(_ bytes: some Collection<UInt8>) -> [UInt32] {
  var words: [UInt32] = []
  for (index, byte) in bytes.enumerated() {
    if index % 4 == 0 {
      words.append(0)
    }
    words[index / 4] |= UInt32(byte) << UInt32(index % 4 * 8)
  }
  return words
}

/// The bytes of `words`, least significant byte of each first.
func littleEndianBytes(_ words: [UInt32]) -> [UInt8] {
  words.flatMap { word in
    (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) }
  }
}

extension UInt64 {
  init(low: UInt32, high: UInt32) {
    self = UInt64(high) << 32 | UInt64(low)
  }
}
