import PVClock
import Testing

@testable import ABIChecker

@Suite struct SoakStatisticsTests {
  @Test func aHistogramCountsByBinaryDigits() {
    var histogram = Histogram()
    for value in [0, 1, 2, 3, 4, 7, 8, .max] as [UInt64] { histogram.add(value) }
    #expect(histogram.counts.prefix(6) == [1, 1, 2, 2, 1, 0])
    #expect(histogram.counts.count == 65 && histogram.counts[64] == 1)
    #expect(histogram.count == 8 && histogram.largest == .max)
    #expect(histogram.sum == .max, "a sum that does not fit stays at the end")
    let upTo = histogram.cumulative
    #expect(upTo[3].upTo == 7 && upTo[3].count == 6)
    #expect(upTo[64].upTo == .max && upTo[64].count == 8)
  }

  @Test func racesCountWithTheMasterClockAndWithout() {
    var host = HistoryBuilder(.contend)
    Script.contend(&host)
    var statistics = SoakStatistics()
    statistics.add(Timeline(host.history))
    #expect(statistics.spread.counts == [2], "two races in master-clock mode, no step back")
    #expect(statistics.spreadWithoutMasterClock.largest == 35)
    #expect(statistics.readings > 6 * 60_000)
    #expect(statistics.residual.count == 0)
  }

  @Test func theDriftIsMeasuredAgainstWhatIsPredicted() throws {
    var statistics = SoakStatistics()
    statistics.add(Timeline(RateTests.rate { $0.clockOffset &+= 700 }.history))
    let drift = try #require(statistics.drift)
    #expect((3_000_000_000...3_001_000_000).contains(drift.span))
    // 43 ppb of 3 s are 129 ns.
    #expect(abs(drift.gained - 129) <= drift.uncertainty, "the record is what it was")
    #expect(abs(drift.residual) <= drift.uncertainty)
    #expect(statistics.residual.count == 2)
    #expect(abs(Int64(statistics.residual.largest) - 700) <= drift.uncertainty, "KVM_GET_CLOCK")
  }

  /// What hours add to the state is larger numbers, nothing else.
  @Test func aThousandRoundsTakeNoMoreRoomThanOne() {
    var host = HistoryBuilder(.contend)
    Script.contend(&host)
    let timeline = Timeline(host.history)
    var statistics = SoakStatistics()
    statistics.add(timeline)
    let before = statistics
    for _ in 0..<999 { statistics.add(timeline) }
    #expect(statistics.readings == 1000 * before.readings)
    #expect(statistics.spread.counts.count == before.spread.counts.count)
    #expect(statistics.spreadWithoutMasterClock.largest == 35)
  }
}
