import PVClock
import Testing

@testable import ABIChecker

@Suite struct RateBoundTests {
  /// A history of `nanoseconds` of CLOCK_MONOTONIC_RAW on which the TSC runs `partsPerBillion` fast.
  static func timeline(
    clocksource: String?, kHz: UInt32? = 1_000_000, partsPerBillion: UInt64,
    nanoseconds: UInt64 = 1_000_000_000, width: UInt64 = 0
  ) -> Timeline {
    let cycles = nanoseconds + nanoseconds * partsPerBillion / 1_000_000_000
    let ends = [(5, 7), (nanoseconds + 5, cycles + 7)] as [(UInt64, UInt64)]
    return Timeline(
      History(
        header: Header(
          scenario: "rate", seed: 1,
          host: HostFacts(kernel: "6.18", clocksource: clocksource, tscKHz: kHz)),
        events: ends.map { raw, tsc in
          Event(
            number: 1, actor: .host, began: Instant(tsc: tsc, raw: raw),
            ended: Instant(tsc: tsc + width, raw: raw + width), action: .tick)
        }))
  }

  @Test func withTheTSCAsClocksourceItIsTheRounding() {
    #expect(Self.timeline(clocksource: "tsc", partsPerBillion: 0).rateBound == 250)
    #expect(Self.timeline(clocksource: "tsc", partsPerBillion: 40_000).rateBound == 250)
    #expect(Self.timeline(clocksource: "tsc", kHz: nil, partsPerBillion: 0).rateBound == 250)
  }

  @Test(arguments: ["hpet", "acpi_pm", "hyperv_clocksource_tsc_page", nil])
  func withAnotherItIsMeasured(clocksource: String?) {
    let timeline = Self.timeline(clocksource: clocksource, partsPerBillion: 40_000)
    // 250 ppb of rounding, and a tick of 280 ns in a second.
    #expect((40_529...40_532).contains(timeline.rateBound))
    #expect((39_468...39_471).contains(timeline.rate.lower))
    #expect(timeline.rounding > 2 * 279)
  }

  /// The moments count, not the events: a bracket of 1 us at each end costs nothing.
  @Test func wideEventsDoNotMakeItWide() {
    let timeline = Self.timeline(clocksource: "hpet", partsPerBillion: 40_000, width: 1000)
    #expect((40_529...40_533).contains(timeline.rateBound))
    #expect((39_467...39_471).contains(timeline.rate.lower))
  }

  /// CLOCK_MONOTONIC_RAW read 1 us away from the TSC at all four moments: ± 2 ppm.
  @Test func readingsFarApartMakeItWide() {
    let ends: [(raw: UInt64, tsc: UInt64)] = [(0, 1000), (1_000_000_000, 1_000_001_000)]
    let events = ends.map { raw, tsc in
      Event(
        number: 1, actor: .host, began: Instant(tsc: tsc, raw: raw),
        ended: Instant(tsc: tsc + 10, raw: raw + 2010), action: .tick)
    }
    let timeline = Timeline(
      History(
        header: Header(
          scenario: "rate", seed: 1,
          host: HostFacts(kernel: "6.18", clocksource: "hpet", tscKHz: 1_000_000)),
        events: events))
    #expect((2_200...2_600).contains(timeline.rateBound))
  }

  @Test func withoutAMeasurementItIsUnknown() {
    let whole: Int128 = 1_000_000_000
    for kHz in [nil, 0, 1, 100] as [UInt32?] {
      #expect(
        Self.timeline(clocksource: "hpet", kHz: kHz, partsPerBillion: 0).rateBound == whole)
    }
    #expect(
      Self.timeline(clocksource: "hpet", partsPerBillion: 0, nanoseconds: 0).rateBound == whole)
    let empty = History(
      header: Header(scenario: "rate", seed: 1, host: HostFacts(kernel: "", tscKHz: 5)))
    #expect(Timeline(empty).rateBound == whole)
  }

  /// The TSC takes a leap in the middle, as under an emulator that lets two CPUs' readings push it.
  static func leaping(by cycles: UInt64) -> Timeline {
    let second: UInt64 = 1_000_000_000
    let moments: [(raw: UInt64, leaps: UInt64)] = [
      (0, 0), (second, 0), (second + 10, 1), (2 * second, 1),
    ]
    let host = HostFacts(kernel: "6.18", clocksource: "hpet", tscKHz: 1_000_000)
    let events = moments.enumerated().map { at, moment in
      let instant = Instant(tsc: moment.raw + moment.leaps * cycles, raw: moment.raw)
      return Event(number: at + 1, actor: .host, began: instant, ended: instant, action: .tick)
    }
    return Timeline(
      History(header: Header(scenario: "rate", seed: 1, host: host), events: events))
  }

  @Test func aTSCThatLeapsHasNoRate() throws {
    #expect(Self.leaping(by: 0).unsteady == nil)
    // 3 us may be an answer that was late: the rate is unknown, and another run may tell.
    let late = Self.leaping(by: 3_000)
    #expect(late.rateBound == 1_000_000_000 && late.unsteady == nil)
    let leaping = Self.leaping(by: 30_000)
    #expect(leaping.rateBound == 1_000_000_000)
    #expect(try #require(leaping.unsteady).contains("from event 2 to 3 the TSC gained"))
    var findings = Findings()
    findings.cannotTell("too wide")
    var race = findings
    race.isRace = true
    guard case .notTested(let reason) = race.outcome(covering: [], in: leaping),
      case .inconclusive(reason) = findings.outcome(covering: [], in: leaping),
      case .inconclusive("too wide") = race.outcome(covering: [], in: late)
    else {
      Issue.record("only a TSC that leaps in a race is no reason to try again")
      return
    }
    #expect(reason.hasSuffix("; too wide"))
  }
}
