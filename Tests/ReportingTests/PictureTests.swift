import ABIChecker
import PVClock
import Testing

@testable import Reporting

@Suite struct HostLineTests {
  @Test(arguments: [0, 100, -250.0])
  func theLineFollowsCLOCK_MONOTONIC_RAW(drift: Double) throws {
    let clock = RunningClock(drift: drift)
    let line = try #require(HostLine(clock.history.events, kHz: 2_000_000))
    #expect(line.error < 5)
    for tsc: UInt64 in [1_000_000, 9_999_999, 40_000_000] {
      let expected = line.raw(clock.raw(tsc))
      #expect(abs(line.raw(atTSC: tsc) - expected) < 5)
    }
  }

  @Test func oneLateReadingMovesItNot() throws {
    var history = RunningClock().history
    history.events[5].ended.raw += 50_000_000
    let line = try #require(HostLine(history.events, kHz: 2_000_000))
    #expect(line.error < 5)
  }

  @Test func withoutAFrequencyThereIsNone() {
    #expect(HostLine(RunningClock().history.events, kHz: nil) == nil)
    #expect(HostLine([], kHz: 1) == nil)
  }
}

@Suite struct StepFigureTests {
  @Test(arguments: [7_000_000, 400_000])
  func theStepIsDrawnWithWhatWasAllowed(step: UInt64) throws {
    let timeline = Timeline(RunningClock(stepAt: 10, step: step).history)
    let wrong = try #require(timeline.firstWrongStep(until: .max))
    let figure = try #require(StepFigure(wrong, in: timeline)).figure(id: "f", title: "Back.")
    let text = figure.html.text
    #expect(text.contains("class=\"allowed\"") && text.contains("class=\"arrow\""))
    #expect(text.contains("class=\"amount end\""))
    // The sentence and the arrow say the same.
    let said = wrong.advance < 0 ? wrong.advance : wrong.advance - wrong.lower
    #expect(text.contains(">\(TimeUnit.text(Double(said)))</text>"))
    #expect(!text.contains("NaN") && !text.contains("inf"))
  }

  @Test func readingsThatTheHistoryDoesNotHaveAreNotDrawn() throws {
    let timeline = Timeline(RunningClock(stepAt: 10, step: 7_000_000).history)
    let wrong = try #require(timeline.firstWrongStep(until: .max))
    #expect(StepFigure(wrong, in: Timeline(RunningClock(readings: 4).history)) == nil)
  }
}

@Suite struct ClockSeriesTests {
  private func series(_ clock: RunningClock) throws -> [ClockSeries] {
    let history = clock.history
    let line = try #require(HostLine(history.events, kHz: 2_000_000))
    return ClockSeries.all(in: Timeline(history), line: line)
  }

  @Test(arguments: [0, 123_456_789, -987_654])
  func aClockThatIsExactHasNoResidual(offset: Int64) throws {
    let all = try series(RunningClock(tscOffset: offset))
    #expect(all.map(\.name) == ["vcpu0", "vcpu1"])
    #expect(all.allSatisfy { $0.points.count == 10 })
    #expect(all.flatMap(\.points).allSatisfy { abs($0.residual) < 5 })
    #expect(all[0].points[0].event == 3)
    #expect(abs(all[0].points[9].value - 18_000_000) < 1000)
  }

  @Test func aStepBackIsSeen() throws {
    let all = try series(RunningClock(stepAt: 10, step: 400_000))
    #expect(all[0].points.map { $0.residual < -399_000 } == (0..<10).map { $0 >= 5 })
  }

  @Test func aTSCThatNoOffsetExplainsTellsNothing() throws {
    var history = RunningClock().history
    guard case .read(let address, let ring, var reading, _) = history.events[9].action else {
      return
    }
    reading.tsc += 1_000_000
    history.events[9].action = .read(
      address: address, ring: ring, reading: reading, settled: true)
    let line = try #require(HostLine(history.events, kHz: 2_000_000))
    #expect(ClockSeries.all(in: Timeline(history), line: line).isEmpty)
  }

  @Test(arguments: [0, 3, 70_000])
  func theSpreadIsWhatVCPUsAreApart(apart: UInt64) throws {
    let spread = try #require(ClockSpread(Timeline(RunningClock(apart: apart).history)))
    #expect(spread.vcpus == 2 && spread.points.count == 19)
    #expect(spread.worst == Double(apart))
  }
}

@Suite struct RecordUpdatesTests {
  @Test func eachNewRecordIsAnUpdateWithItsFlags() throws {
    let clock = RunningClock { index in
      index < 4 ? [] : index < 8 ? .tscStable : [.tscStable, .guestStopped]
    }
    let updates = try #require(RecordUpdates(Timeline(clock.history)))
    #expect(updates.lanes.map(\.vcpu) == [0, 1])
    let lane = updates.lanes[0].updates
    #expect(lane.map(\.version) == [2, 4, 6, 8, 10])
    #expect(lane.map(\.isStable) == [false, true, true, true, true])
    #expect(lane.map(\.isStopped) == [false, false, true, true, true])
    #expect(updates.changes == 4 && updates.hasStopped)
  }
}

@Suite struct PlotTests {
  @Test(arguments: [
    (0, 10, [0, 2, 4, 6, 8, 10]), (-3, 3, [-3, -2, -1, 0, 1, 2, 3]),
    (0, 450, [0, 100, 200, 300, 400]),
  ])
  func anAxisIsMarkedByRoundNumbers(lower: Double, upper: Double, ticks: [Double]) {
    let axis = Axis([lower, upper], from: 0, to: 100, least: 1)
    #expect(axis.ticks(6) == ticks)
    #expect(axis.place(axis.lower) == 0 && axis.place(axis.upper) == 100)
  }

  @Test func valuesThatAreAlikeGetRoom() {
    let axis = Axis([5, 5], from: 0, to: 100, least: 20)
    #expect(axis.place(5) == 50)
    #expect(axis.lower < -5 && axis.upper > 15)
  }

  @Test(arguments: [
    (0, "0 ns"), (7, "7 ns"), (-226_616, "−227 µs"), (1500, "1.5 µs"), (12_345_678, "12.3 ms"),
    (5.4e16, "625 days"), (0.25, "0.25 ns"), (999_999, "1000 µs"),
  ])
  func aTimeIsShort(nanoseconds: Double, text: String) {
    #expect(TimeUnit.text(nanoseconds) == text)
  }

  @Test func aCoordinateIsAlwaysANumber() {
    #expect(SVG.at(1.25) == "1.3" && SVG.at(-0.31) == "-0.3" && SVG.at(7) == "7")
    #expect(SVG.at(.infinity) == "0" && SVG.at(.nan) == "0" && SVG.at(1e300) == "1000000")
  }
}
