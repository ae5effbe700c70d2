import PVClock
import Testing

@Suite struct WallClockTests {
  @Test func everyFieldLiesWhereTheKernelPutsIt() {
    let clock = WallClock(version: 0x0302_0100, seconds: 0x0706_0504, nanoseconds: 0x0b0a_0908)
    #expect(clock.bytes == Array(0..<12))
    #expect(clock.words == [0x0302_0100, 0x0706_0504, 0x0b0a_0908])
    #expect(WallClock(bytes: 0..<12) == clock)
    #expect(WallClock.size == 12)
  }

  @Test func onlyAWholeRecordIsRead() {
    for count in 0..<40 where count != 12 {
      #expect(WallClock(bytes: Array(repeating: 0xa5, count: count)) == nil, "\(count) bytes")
    }
  }

  @Test(
    arguments: [
      (0, 0, 0),
      (1, 1, 1_000_000_001),
      (1_700_000_000, 999_999_999, 1_700_000_000_999_999_999),
      (1, .max, 5_294_967_295),
      (.max, .max, 4_294_967_299_294_967_295),
    ] as [(UInt32, UInt32, UInt64)])
  func theEpochIsSecondsAndNanoseconds(seconds: UInt32, nanoseconds: UInt32, epoch: UInt64) {
    let clock = WallClock(version: 2, seconds: seconds, nanoseconds: nanoseconds)
    #expect(clock.epochNanoseconds == epoch)
  }
}
