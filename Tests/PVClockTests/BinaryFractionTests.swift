import PVClock
import Testing

@Suite struct BinaryFractionTests {
  static let widest = (UInt128(UInt32.max) * UInt128(UInt64.max)) << 32

  @Test(
    arguments: [
      (1, 0, 7, 7...7),
      (3, -1, 7, 10...11),
      (3, -1, 8, 12...12),
      (3, 2, 7, 84...84),
      (.max, 32, .max, widest...widest),
      (.max, 33, .max, nil),
      (1, 127, 1, 1 << 127...1 << 127),
      (1, 128, 1, nil),
      (1, -96, .max, 0...1),
      (1, .min, 1, 0...1),
      (1, .max, 1, nil),
      (0, .max, .max, 0...0),
      (0, .min, .max, 0...0),
    ] as [(UInt32, Int, UInt64, ClosedRange<UInt128>?)])
  func theProductIsRoundedBothWays(
    significand: UInt32, exponent: Int, count: UInt64, product: ClosedRange<UInt128>?
  ) {
    #expect(
      BinaryFraction(significand: significand, exponent: exponent).multiplied(by: count) == product)
  }

  @Test func theLowerBoundIsWhatAGuestComputesWhereNothingIsShiftedOut() {
    var random = SeededGenerator()
    for _ in 0..<1000 {
      let scale = TSCScale(tscKHz: random.tscKHz(upTo: 2_000_000))
      let cycles = random.spread(UInt64.self) >> 21
      #expect(
        scale.nanosecondsPerCycle.multiplied(by: cycles)?.lowerBound
          == UInt128(scale.nanoseconds(cycles: cycles)), "\(scale), \(cycles) cycles")
    }
  }

  @Test func theApproximationIsForPeople() {
    #expect(BinaryFraction(significand: 3, exponent: -1).approximation == 1.5)
    #expect(BinaryFraction(significand: 3, exponent: 4).approximation == 48)
    #expect(BinaryFraction(significand: 3, exponent: .min).approximation == 0)
    #expect(BinaryFraction(significand: 3, exponent: .max).approximation == .infinity)
    #expect(BinaryFraction(significand: 0, exponent: .max).approximation == 0)
  }
}
