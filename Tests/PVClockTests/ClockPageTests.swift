import PVClock
import Testing

@Suite struct ClockPageTests {
  @Test func everyFieldLiesWhereTheKernelPutsIt() {
    let page = ClockPage(
      version: 0x0302_0100,
      pad0: 0x0706_0504,
      tscTimestamp: 0x0f0e_0d0c_0b0a_0908,
      systemTime: 0x1716_1514_1312_1110,
      tscToSystemMultiplier: 0x1b1a_1918,
      tscShift: 0x1c,
      flags: ClockPage.Flags(rawValue: 0x1d),
      pad: 0x1f1e
    )
    #expect(page.bytes == Array(0..<32))
    #expect(ClockPage(bytes: 0..<32) == page)
    #expect(ClockPage.size == 32)
  }

  @Test(arguments: [
    (ClockPage(version: .max), 0..<4),
    (ClockPage(pad0: .max), 4..<8),
    (ClockPage(tscTimestamp: .max), 8..<16),
    (ClockPage(systemTime: .max), 16..<24),
    (ClockPage(tscToSystemMultiplier: .max), 24..<28),
    (ClockPage(tscShift: -1), 28..<29),
    (ClockPage(flags: ClockPage.Flags(rawValue: .max)), 29..<30),
    (ClockPage(pad: .max), 30..<32),
  ])
  func aFieldOfOnesTouchesNoOtherByte(page: ClockPage, field: Range<Int>) {
    let expected = (0..<32).map { field.contains($0) ? UInt8.max : 0 }
    #expect(page.bytes == expected)
    #expect(ClockPage(bytes: expected) == page)
  }

  @Test func theWordsAreTheBytesInFours() {
    #expect(
      ClockPage(bytes: 0..<32)?.words == [
        0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c,
        0x1312_1110, 0x1716_1514, 0x1b1a_1918, 0x1f1e_1d1c,
      ])
    #expect(ClockPage(words: Array(repeating: 0, count: 8)) == ClockPage())
  }

  @Test func onlyAWholeRecordIsRead() {
    for count in 0..<100 where count != 32 {
      #expect(ClockPage(bytes: Array(repeating: 0xa5, count: count)) == nil, "\(count) bytes")
    }
    for count in 0..<25 where count != 8 {
      #expect(ClockPage(words: Array(repeating: 0xa5, count: count)) == nil, "\(count) words")
    }
  }

  @Test func aSliceIsReadFromItsOwnBeginning() {
    let memory = Array(repeating: UInt8(0xa5), count: 64) + Array(0..<32) + [0xa5]
    #expect(ClockPage(bytes: memory[64..<96]) == ClockPage(bytes: 0..<32))
    let words = [UInt32(7)] + ClockPage(version: 2, pad: 9).words
    #expect(ClockPage(words: Array(words[1...])) == ClockPage(version: 2, pad: 9))
  }

  @Test func anyBytesSurviveTheRoundTrip() {
    var random = SeededGenerator()
    for _ in 0..<500 {
      let bytes = (0..<32).map { _ in UInt8.random(in: 0...UInt8.max, using: &random) }
      let page = ClockPage(bytes: bytes)
      #expect(page?.bytes == bytes)
      #expect(page.flatMap { ClockPage(words: $0.words) } == page)
    }
  }

  @Test func theFlagsAreTheKernelsBits() {
    #expect(ClockPage.Flags.tscStable.rawValue == 0x01)
    #expect(ClockPage.Flags.guestStopped.rawValue == 0x02)
    #expect(ClockPage.Flags.countsFromZero.rawValue == 0x04)
    #expect(ClockPage.Flags.reserved.rawValue == 0xfc)
  }

  @Test func theScaleIsThatOfTheRecord() {
    let page = ClockPage(tscToSystemMultiplier: 0xc537_1140, tscShift: -1)
    #expect(page.scale == TSCScale(multiplier: 0xc537_1140, shift: -1))
  }
}

@Suite struct SystemTimeTests {
  struct Row {
    var page: ClockPage
    var tsc: UInt64
    var expected: UInt64
  }

  /// A page on which one cycle is one nanosecond.
  static func unitRate(tsc: UInt64, time: UInt64) -> ClockPage {
    ClockPage(
      tscTimestamp: tsc, systemTime: time, tscToSystemMultiplier: 1 << 31, tscShift: 1)
  }

  @Test(arguments: [
    Row(page: unitRate(tsc: 1000, time: 70), tsc: 1000, expected: 70),
    Row(page: unitRate(tsc: 1000, time: 70), tsc: 1001, expected: 71),
    // The guest's TSC behind the timestamp: shifting the huge difference loses its top bit.
    Row(page: unitRate(tsc: 1000, time: 70), tsc: 999, expected: 70 + (1 << 63) - 1),
    Row(page: unitRate(tsc: .max, time: 70), tsc: 4, expected: 75),
    Row(page: unitRate(tsc: 0, time: .max), tsc: 0, expected: .max),
    Row(page: unitRate(tsc: 0, time: .max), tsc: 1, expected: 0),
    Row(page: unitRate(tsc: 0, time: .max - 4), tsc: 9, expected: 4),
    Row(page: ClockPage(tscTimestamp: 5, systemTime: 6), tsc: .max, expected: 6),
  ])
  func aGuestReadsThisTime(row: Row) {
    #expect(row.page.systemTime(atTSC: row.tsc) == row.expected)
  }

  @Test func anyRecordGivesWhatTheModelGives() {
    var random = SeededGenerator()
    for _ in 0..<1000 {
      let page = random.page()
      let tsc = random.spread(UInt64.self)
      let cycles = Bits(tsc).minus(Bits(page.tscTimestamp), width: 64)
      let elapsed = modelNanoseconds(cycles: cycles, page.scale)
      let expected = Bits(page.systemTime).plus(elapsed).value
      #expect(page.systemTime(atTSC: tsc) == expected, "\(page) at \(tsc)")
    }
  }
}
