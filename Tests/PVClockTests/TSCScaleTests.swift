import PVClock
import Testing

/// The conversion digit by digit: shift within 64 binary places, multiply, drop the last 32.
func modelNanoseconds(cycles: Bits, _ scale: TSCScale) -> Bits {
  let shifted = cycles.shifted(Int(scale.shift)).lowest(64)
  return shifted.times(Bits(scale.multiplier)).shifted(-32).lowest(64)
}

@Suite struct TSCScaleTests {
  static let multipliers: [UInt32] = [0, 1, 0x7fff_ffff, 1 << 31, 0xc537_1140, .max]
  static let cycles: [UInt64] = [0, 1, 0xffff_ffff, 1 << 32, 1 << 63, 0x8000_0001_0000_0001, .max]

  @Test(
    arguments: [
      (TSCScale(multiplier: 1 << 31, shift: 1), 12_345, 12_345),
      (TSCScale(multiplier: 1 << 31, shift: 0), 12_345, 6172),
      (TSCScale(multiplier: .max, shift: 0), 1 << 32, (1 << 32) - 1),
      (TSCScale(multiplier: .max, shift: 0), .max, 18_446_744_069_414_584_319),
      (TSCScale(multiplier: 1, shift: 0), .max, 0xffff_ffff),
      (TSCScale(multiplier: 1, shift: 31), 1, 0),
      (TSCScale(multiplier: 2, shift: 31), 1, 1),
      (TSCScale(multiplier: 1 << 31, shift: -31), .max, 0xffff_ffff),
      (TSCScale(multiplier: 0, shift: 31), .max, 0),
      (TSCScale(multiplier: 0xc537_1140, shift: -1), 2_596_150_000, 999_999_999),
    ] as [(TSCScale, UInt64, UInt64)])
  func knownConversions(scale: TSCScale, cycles: UInt64, expected: UInt64) {
    #expect(scale.nanoseconds(cycles: cycles) == expected)
  }

  @Test func everyShiftGivesWhatTheModelGives() {
    for shift in Int8.min...Int8.max {
      for multiplier in Self.multipliers {
        let scale = TSCScale(multiplier: multiplier, shift: shift)
        for cycles in Self.cycles {
          let expected = modelNanoseconds(cycles: Bits(cycles), scale).value
          #expect(scale.nanoseconds(cycles: cycles) == expected, "\(scale), \(cycles) cycles")
        }
      }
    }
  }

  @Test func anyScaleGivesWhatTheModelGives() {
    var random = SeededGenerator()
    for _ in 0..<1000 {
      let shift = Int8.random(in: -31...31, using: &random)
      let scale = TSCScale(multiplier: random.spread(UInt32.self), shift: shift)
      let cycles = random.spread(UInt64.self)
      let expected = modelNanoseconds(cycles: Bits(cycles), scale).value
      #expect(scale.nanoseconds(cycles: cycles) == expected, "\(scale), \(cycles) cycles")
    }
  }

  @Test func aMultiplierIsNormalizedFromItsHighestBitOn() {
    #expect(!TSCScale(multiplier: 0, shift: 0).isNormalized)
    #expect(!TSCScale(multiplier: 0x7fff_ffff, shift: 0).isNormalized)
    #expect(TSCScale(multiplier: 0x8000_0000, shift: 0).isNormalized)
    #expect(TSCScale(multiplier: .max, shift: 0).isNormalized)
  }

  @Test func theExactRateIsTheMultiplierBehindThirtyTwoPlaces() {
    #expect(
      TSCScale(multiplier: 7, shift: -1).nanosecondsPerCycle
        == BinaryFraction(significand: 7, exponent: -33))
    #expect(TSCScale(multiplier: 1 << 31, shift: 1).nanosecondsPerCycle.approximation == 1)
  }

  @Test func theFrequencyIsDerivedAsAGuestDoes() {
    var random = SeededGenerator()
    #expect(TSCScale(multiplier: 0, shift: 0).tscKHz == nil)
    let dividend = Bits(UInt64(1_000_000)).shifted(32)
    for round in 0..<500 {
      let shift = round < 256 ? Int8(round - 128) : Int8.random(in: -31...31, using: &random)
      let multiplier = max(1, random.spread(UInt32.self))
      let scale = TSCScale(multiplier: multiplier, shift: shift)
      let expected = dividend.divided(by: Bits(multiplier)).shifted(-Int(shift)).value
      #expect(scale.tscKHz == expected, "\(scale)")
    }
  }
}
