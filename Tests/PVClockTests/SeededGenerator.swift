import Foundation
import PVClock

/// Random input (SplitMix64), the same in each run. It takes the seed of `PVCLOCK_TEST_SEED`, where "random" is a new one for
/// each test. The seed is printed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(for test: String = #function) {
    let given = ProcessInfo.processInfo.environment["PVCLOCK_TEST_SEED"] ?? "1"
    state = UInt64(given) ?? .random(in: 0...UInt64.max)
    print("\(test): PVCLOCK_TEST_SEED=\(state)")
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }

  /// A number of random length, so that small and large ones are equally common.
  mutating func spread<Number: UnsignedInteger & FixedWidthInteger>(_: Number.Type) -> Number {
    let value = Number.random(in: 0...Number.max, using: &self)
    return value >> Number(Int.random(in: 0..<Number.bitWidth, using: &self))
  }

  /// A TSC frequency in kHz of random length, never 0.
  mutating func tscKHz(upTo limit: UInt32 = .max) -> UInt32 {
    max(1, spread(UInt32.self) % limit)
  }

  mutating func page() -> ClockPage {
    ClockPage(
      version: spread(UInt32.self),
      pad0: spread(UInt32.self),
      tscTimestamp: spread(UInt64.self),
      systemTime: spread(UInt64.self),
      tscToSystemMultiplier: spread(UInt32.self),
      tscShift: .random(in: .min ... .max, using: &self),
      flags: ClockPage.Flags(rawValue: .random(in: 0...UInt8.max, using: &self)),
      pad: spread(UInt16.self)
    )
  }
}
