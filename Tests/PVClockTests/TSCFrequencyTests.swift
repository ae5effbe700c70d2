import PVClock
import Testing

@Suite struct TSCFrequencyTests {
  /// Frequencies in kHz at which something changes: powers of two, 10^9·2^n Hz, and neighbours.
  static let edges: [UInt32] = {
    let powers = (0..<32).map { UInt64(1) << $0 }
    let doubled = (-19...12).map { $0 < 0 ? 1_000_000 >> -$0 : UInt64(1_000_000) << $0 }
    let near = (powers + doubled).flatMap { [$0 - 1, $0, $0 + 1, $0 + 2] }
    return (near + [2_596_118, 2_596_150, 16_000_000, UInt64(UInt32.max)])
      .filter { $0 > 0 }
      .compactMap { UInt32(exactly: $0) }
  }()

  /// The scale as a definition: halve (losing bits) to at most 2·10^9 Hz, double to above 10^9 Hz.
  static func model(hertz: UInt64) -> TSCScale {
    let halvings = (0...64).first { hertz >> $0 <= 2_000_000_000 }!
    let halved = hertz >> halvings
    let doublings = (0...64).first { halved << $0 > 1_000_000_000 }!
    let frequency = Bits(halved).shifted(doublings)
    let multiplier = Bits(UInt64(1_000_000_000)).shifted(32).divided(by: frequency)
    return TSCScale(
      multiplier: UInt32(multiplier.value), shift: Int8(doublings - halvings))
  }

  @Test(
    arguments: [
      (1, 0xf424_0000, 20),
      (999_999, 0x8000_0863, 1),
      (1_000_000, 0x8000_0000, 1),
      (1_000_001, 0xffff_ef39, 0),
      (2_000_000, 0x8000_0000, 0),
      (2_596_118, 0xc537_b08f, -1),
      (2_596_150, 0xc537_1140, -1),
      // 2,048,000,002,000 Hz halves past 2·10^9 to exactly 10^9, and is doubled again.
      (2_048_000_002, 0x8000_0000, -10),
      (.max, 0xf424_0003, -12),
    ] as [(UInt32, UInt32, Int8)])
  func knownScales(tscKHz: UInt32, multiplier: UInt32, shift: Int8) {
    #expect(TSCScale(tscKHz: tscKHz) == TSCScale(multiplier: multiplier, shift: shift))
  }

  @Test func noFrequencyGivesNoScale() {
    #expect(TSCScale(tscKHz: 0) == TSCScale(multiplier: 0, shift: 0))
  }

  @Test func everyFrequencyGivesWhatTheModelGives() {
    var random = SeededGenerator()
    for tscKHz in Self.edges + (0..<1000).map({ _ in random.tscKHz() }) {
      let scale = TSCScale(tscKHz: tscKHz)
      #expect(scale == Self.model(hertz: UInt64(tscKHz) * 1000), "\(tscKHz) kHz")
      #expect(scale.isNormalized, "\(tscKHz) kHz")
    }
  }

  @Test func upTo16GHzTheRateIsNeverFastAndLessThanTwoToTheMinus31Slow() {
    var random = SeededGenerator()
    let frequencies = Self.edges + (0..<1000).map { _ in random.tscKHz() }
    for tscKHz in frequencies where tscKHz <= 16_000_000 {
      let (counted, expected) = Self.nanosecondsPerSecond(tscKHz)
      #expect(counted <= expected, "\(tscKHz) kHz")
      #expect((expected - counted) << 31 < expected, "\(tscKHz) kHz")
    }
  }

  @Test func above16GHzTheRateIsLessThanOnePartPerBillionFast() {
    var random = SeededGenerator()
    for _ in 0..<1000 {
      let tscKHz = UInt32.random(in: 16_000_001...UInt32.max, using: &random)
      let (counted, expected) = Self.nanosecondsPerSecond(tscKHz)
      #expect(counted * 1_000_000_000 < expected * 1_000_000_001, "\(tscKHz) kHz")
      #expect((expected - min(counted, expected)) << 31 < expected, "\(tscKHz) kHz")
    }
  }

  /// What the scale counts in one second of the TSC, and one second, both in 2^-48 ns.
  static func nanosecondsPerSecond(_ tscKHz: UInt32) -> (counted: UInt128, expected: UInt128) {
    let scale = TSCScale(tscKHz: tscKHz)
    let hertz = UInt128(tscKHz) * 1000
    let perCycle = UInt128(scale.multiplier) << (Int(scale.shift) + 16)
    return (hertz * perCycle, 1_000_000_000 << 48)
  }

  @Test func aGuestDerivesTheFrequencyLessTheBitsShiftedOut() {
    var random = SeededGenerator()
    let frequencies = Self.edges + (0..<1000).map { _ in random.tscKHz() }
    for tscKHz in frequencies where tscKHz <= 16_000_000 {
      let scale = TSCScale(tscKHz: tscKHz)
      let lost = max(0, -Int(scale.shift))
      #expect(scale.tscKHz == UInt64((tscKHz >> lost) << lost), "\(tscKHz) kHz")
    }
  }

  @Test(
    arguments: [
      (1, 1, 0x8000_0000, 1),
      (2_000_000_001, 1_000_000_000, 0x8000_0000, 0),
      (2_596_118, 1_000_000, 0xc537_b08f, -1),
      (1 << 62, 1_000_000_000, 0xee6b_2800, -32),
      (1, 1 << 33, 0x8000_0000, 34),
      (0xf000_0000, 0xf000_0000, 0x8000_0000, 1),
      (.max, .max / 4, 0x7fff_ffff, -1),
      (.max, .max / 2, 0x7fff_ffff, 0),
      (1, .max / 2, 0xffff_fffe, 63),
      (.max, 1, 0x8000_0000, -62),
    ] as [(UInt64, UInt64, UInt32, Int8)])
  func scalesBetweenAnyTwoFrequencies(
    baseHz: UInt64, scaledHz: UInt64, multiplier: UInt32, shift: Int8
  ) {
    #expect(
      TSCScale(baseHz: baseHz, scaledHz: scaledHz)
        == TSCScale(multiplier: multiplier, shift: shift))
  }

  @Test(arguments: [(0, 1), (1, 0), (0, 0), (1, .max), (1, .max / 2 + 1)] as [(UInt64, UInt64)])
  func frequenciesOnWhichTheKernelMayNotEndGiveNoScale(baseHz: UInt64, scaledHz: UInt64) {
    #expect(TSCScale(baseHz: baseHz, scaledHz: scaledHz) == nil)
  }

  @Test func anyTwoFrequenciesGiveAScaleOrNone() {
    var random = SeededGenerator()
    for _ in 0..<2000 {
      let base = random.spread(UInt64.self)
      let scaled = random.spread(UInt64.self)
      let scale = TSCScale(baseHz: base, scaledHz: scaled)
      #expect((scale == nil) == (base == 0 || scaled == 0 || scaled >> 63 != 0))
    }
  }
}
