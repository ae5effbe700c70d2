import PVClock
import Testing

@Suite struct ClocksourceScaleTests {
  /// The scale as a definition: the most binary places whose rounded multiplier still leaves room
  /// for 600 s of cycles in 64 bits and, halved as often as needed, for 11 % more in 32 bits.
  static func model(tscKHz: UInt32) -> ClocksourceScale {
    let from = UInt128(tscKHz)
    let room = (0...32).last { (from * 600_000) >> 32 < UInt128(1) << (32 - $0) }!
    func rounded(_ places: Int) -> UInt128 {
      (UInt128(2_000_000) << places + from) / (2 * from)
    }
    var places = (1...32).last { rounded($0) < UInt128(1) << room }!
    var multiplier = rounded(places)
    while multiplier + multiplier * 11 / 100 >= 1 << 32 {
      multiplier /= 2
      places -= 1
    }
    return ClocksourceScale(multiplier: UInt32(multiplier), shift: UInt8(places))
  }

  @Test(
    arguments: [
      (1, 2_048_000_000, 11),
      (1000, 2_097_152_000, 21),
      (1_000_000, 8_388_608, 23),
      (2_596_118, 6_462_424, 24),
      (2_596_150, 6_462_345, 24),
      (3_000_000, 5_592_405, 24),
      (.max, 3906, 24),
    ] as [(UInt32, UInt32, UInt8)])
  func knownScales(tscKHz: UInt32, multiplier: UInt32, shift: UInt8) {
    #expect(
      ClocksourceScale(tscKHz: tscKHz) == ClocksourceScale(multiplier: multiplier, shift: shift))
  }

  @Test func noFrequencyGivesNoScale() {
    #expect(ClocksourceScale(tscKHz: 0) == nil)
  }

  @Test func everyFrequencyGivesWhatTheModelGives() {
    var random = SeededGenerator()
    for tscKHz in TSCFrequencyTests.edges + (0..<1000).map({ _ in random.tscKHz() }) {
      #expect(ClocksourceScale(tscKHz: tscKHz) == Self.model(tscKHz: tscKHz), "\(tscKHz) kHz")
    }
  }

  @Test func theExactRateIsTheMultiplierBehindShiftPlaces() {
    #expect(
      ClocksourceScale(multiplier: 7, shift: 24).nanosecondsPerCycle
        == BinaryFraction(significand: 7, exponent: -24))
    #expect(
      ClocksourceScale(multiplier: 7, shift: 255).nanosecondsPerCycle
        == BinaryFraction(significand: 7, exponent: -255))
  }
}

@Suite struct RateDifferenceTests {
  @Test(
    arguments: [
      (2_596_118, 43.219, 143, 3_308_761_088),
      (2_596_150, -58.028, -1, 17_232_920),
      (3_000_000, 59.372, 1, 16_843_008),
      (1_000_000, 0, 0, 1),
    ] as [(UInt32, Double, Int64, UInt64)])
  func knownDifferences(
    tscKHz: UInt32, partsPerBillion: Double, numerator: Int64, denominator: UInt64
  ) throws {
    let difference = try #require(RateDifference.kvmclockVersusRaw(tscKHz: tscKHz))
    #expect(abs(difference.partsPerBillion - partsPerBillion) < 0.0005)
    #expect(difference.numerator == numerator)
    #expect(difference.denominator == denominator)
  }

  @Test(
    arguments: [
      (2_596_118, 10_000_200_000, 432...433),
      (2_596_118, 3_308_761_088, 143...143),
      (2_596_118, 0, 0...0),
      (2_596_150, 1_000_000_000, -59 ... -58),
      (2_596_150, 17_232_920, -1 ... -1),
      (2_596_150, 1, -1...0),
      (1_000_000, .max, 0...0),
    ] as [(UInt32, UInt64, ClosedRange<Int128>)])
  func knownDrifts(tscKHz: UInt32, elapsed: UInt64, drift: ClosedRange<Int128>) {
    let difference = RateDifference.kvmclockVersusRaw(tscKHz: tscKHz)
    #expect(difference?.drift(overNanoseconds: elapsed) == drift)
  }

  @Test func theDifferenceIsExact() throws {
    var random = SeededGenerator()
    for tscKHz in TSCFrequencyTests.edges + (0..<1000).map({ _ in random.tscKHz() }) {
      let raw = try #require(ClocksourceScale(tscKHz: tscKHz))
      let scale = TSCScale(tscKHz: tscKHz)
      let difference = try #require(RateDifference.kvmclockVersusRaw(tscKHz: tscKHz))
      // Both rates in 2^-48 ns per cycle.
      let counted = Int128(scale.multiplier) << (Int(scale.shift) + 16)
      let expected = Int128(raw.multiplier) << (48 - Int(raw.shift))
      #expect(
        Int128(difference.numerator) * expected
          == Int128(difference.denominator) * (counted - expected), "\(tscKHz) kHz")
    }
  }

  @Test func theDriftIsTheNarrowestIntervalAroundTheProduct() throws {
    var random = SeededGenerator()
    for _ in 0..<1000 {
      let difference = try #require(RateDifference.kvmclockVersusRaw(tscKHz: random.tscKHz()))
      let elapsed = random.spread(UInt64.self)
      let drift = difference.drift(overNanoseconds: elapsed)
      let product = Int128(difference.numerator) * Int128(elapsed)
      let denominator = Int128(difference.denominator)
      #expect(drift.lowerBound * denominator <= product, "\(difference), \(elapsed) ns")
      #expect(product <= drift.upperBound * denominator, "\(difference), \(elapsed) ns")
      let isExact = drift.lowerBound * denominator == product
      #expect(drift.upperBound - drift.lowerBound == (isExact ? 0 : 1))
    }
  }

  @Test func from1To5GHzTheDifferenceIsBelow250PartsPerBillion() throws {
    var random = SeededGenerator()
    for _ in 0..<2000 {
      let tscKHz = UInt32.random(in: 1_000_000...5_000_000, using: &random)
      let difference = try #require(RateDifference.kvmclockVersusRaw(tscKHz: tscKHz))
      #expect(abs(difference.partsPerBillion) < 250, "\(tscKHz) kHz")
    }
  }

  @Test func noFrequencyGivesNoDifference() {
    #expect(RateDifference.kvmclockVersusRaw(tscKHz: 0) == nil)
    let raw = ClocksourceScale(multiplier: 0, shift: 24)
    #expect(RateDifference(of: TSCScale(multiplier: 1, shift: 0), versus: raw) == nil)
  }

  @Test func aDifferenceBeyond64BitsIsRefused() {
    let one = ClocksourceScale(multiplier: 1, shift: 0)
    // 2^31·2^32 / 2^32 against 1: the numerator is 2^63 - 1, the largest that fits.
    let largest = RateDifference(
      of: TSCScale(multiplier: 1 << 31, shift: 64), versus: one)
    #expect(largest?.numerator == .max)
    #expect(largest?.denominator == 1)
    #expect(
      RateDifference(of: TSCScale(multiplier: 1 << 31, shift: 65), versus: one) == nil)
    #expect(
      RateDifference(of: TSCScale(multiplier: 1, shift: -31), versus: one)?.denominator == 1 << 63)
    #expect(RateDifference(of: TSCScale(multiplier: 1, shift: -32), versus: one) == nil)
    #expect(RateDifference(of: TSCScale(multiplier: 0, shift: 0), versus: one)?.numerator == -1)
  }

  @Test func noPairOfScalesTraps() {
    var random = SeededGenerator()
    for _ in 0..<5000 {
      let scale = TSCScale(
        multiplier: random.spread(UInt32.self), shift: .random(in: .min ... .max, using: &random))
      let raw = ClocksourceScale(
        multiplier: random.spread(UInt32.self), shift: .random(in: 0...UInt8.max, using: &random))
      let difference = RateDifference(of: scale, versus: raw)
      let drift = difference?.drift(overNanoseconds: .max)
      #expect((drift?.lowerBound ?? 0) <= (drift?.upperBound ?? 0))
    }
  }
}
