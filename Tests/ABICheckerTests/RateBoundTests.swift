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
    #expect(timeline.rateBound == 40_250)
    #expect(timeline.rate == Interval(39_750, 40_250))
    #expect(timeline.rounding > 2 * 279)
  }

  /// 1 us of bracket at each end of 1 s: ± 2 ppm.
  @Test func wideEndsMakeItWide() {
    let timeline = Self.timeline(clocksource: "hpet", partsPerBillion: 40_000, width: 1000)
    #expect((42_200...42_300).contains(timeline.rateBound))
    #expect((37_700...37_800).contains(timeline.rate.lower))
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
}
