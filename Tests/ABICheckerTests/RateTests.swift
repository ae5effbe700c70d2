import PVClock
import Testing

@testable import ABIChecker

@Suite struct RateTests {
  static let rule = "RATE-RAW"

  /// Both clocks at both ends of a wait, in brackets so wide.
  static func rate(
    source: SimulatedTime.Source = .tsc, milliseconds: UInt64 = 3000, bracket: UInt64 = 60,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.rate, source: source)
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    host.bracket = bracket
    host.look(0)
    host.tick()
    host.getClock()
    host.wait(milliseconds: milliseconds)
    fault(&host)
    host.getClock()
    host.tick()
    host.look(0)
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func anHonestClockHolds(source: SimulatedTime.Source) throws {
    try expectHolds(Self.rule, Self.rate(source: source).history)
    try expectHolds(Self.rule, Self.rate(source: source, milliseconds: 60_000).history)
  }

  /// The interval of CLOCK_MONOTONIC_RAW's advance is 50 ns to -50 ns: reversed, and its middle is 0.
  @Test func aBracketThatEndsBeforeItBeganBoundsNoRate() throws {
    var history = Self.rate().history
    let calls = history.events.indices.filter {
      if case .getClock = history.events[$0].action { true } else { false }
    }
    let first = try #require(calls.first)
    let last = try #require(calls.last)
    history.events[first].began.raw = 100
    history.events[first].ended.raw = 0
    history.events[last].began.raw = 50
    history.events[last].ended.raw = 50
    try expectNotTested(Self.rule, history)
  }

  @Test func theEvidenceHasTheRates() throws {
    guard case .holds(let evidence, _) = try judge(Self.rule, Self.rate().history) else {
      Issue.record("does not hold")
      return
    }
    #expect(evidence.contains("KVM_GET_CLOCK +43 ppb"))
    #expect(evidence.contains("predicted 43 ppb"))
  }

  /// 8.15 ppm slow, as a kvm.ko that was loaded before the TSC was refined.
  @Test(arguments: [-24_450, 24_450, -400, 400] as [Int64])
  func anotherRateOfGetClockIsBroken(over3s nanoseconds: Int64) throws {
    let history = Self.rate { $0.clockOffset &+= UInt64(bitPattern: nanoseconds) }.history
    try expectBroken(
      Self.rule, history, "the advance of KVM_GET_CLOCK", "CLOCK_MONOTONIC_RAW advanced by 30000",
      "predicted difference 129 ns to 130 ns", "too ")
  }

  @Test(arguments: [-18_000, 18_000] as [Int])
  func anotherMultiplierIsBroken(by parts: Int) throws {
    var host = Self.rate()
    for place in [0, 1] {
      host.amend(place) {
        $0.tscToSystemMultiplier = UInt32(Int($0.tscToSystemMultiplier) + parts)
      }
    }
    try expectBroken(Self.rule, host.history, "the advance of the guest's clock", "too ")
  }

  /// kvmclock on the slewed clock: 500 ppm.
  @Test func aClockThatFollowsNTPIsBroken() throws {
    let history = Self.rate { $0.clockOffset &+= 1_500_000 }.history
    try expectBroken(Self.rule, history, "1500", "too ")
  }

  @Test func aClockThatStandsStillIsBroken() throws {
    let history = Self.rate { $0.clockOffset &-= 3_000_000_000 }.history
    try expectBroken(Self.rule, history, "2999999936 ns (3.0 s) too low", "too ")
  }

  /// Kernels before 6.19 renew every record each 300 s; the pair stays.
  @Test(arguments: [0, 1] as [UInt64])
  func aRecordIsExtrapolatedAsLongAsItsPairStays(nanoseconds: UInt64) throws {
    var host = Self.rate()
    host.amend(1) {
      $0.version += 2
      $0.systemTime += nanoseconds
    }
    if nanoseconds == 0 {
      try expectHolds(Self.rule, host.history)
    } else {
      try expectNotTested(Self.rule, host.history, "saw 1")
    }
  }

  /// Linux before 6.3 keeps an unrefined frequency: some ppm off, not 30 %.
  @Test(arguments: [(-24_450, true), (24_450, true), (900_000_000, false)] as [(Int64, Bool)])
  func onlyASmallErrorIsTheKnownOne(over3s nanoseconds: Int64, fits: Bool) throws {
    let history = Self.rate { $0.clockOffset &+= UInt64(bitPattern: nanoseconds) }.history
    guard case .broken(let violations) = try judge(Self.rule, history) else {
      Issue.record("not broken")
      return
    }
    #expect(violations.allSatisfy { ($0.fitsDeviation ?? false) == fits })
  }

  /// The clock of an honest second machine starts at 0 again.
  @Test func aSecondMachineIsNoFault() throws {
    var host = Self.rate()
    host.machine(0, tscOffset: 1 << 50)
    for _ in 0..<2 { host.register(0) }
    host.look(0)
    host.tick()
    host.getClock()
    host.wait(milliseconds: 3000)
    host.getClock()
    host.tick()
    host.look(0)
    try expectHolds(Self.rule, host.history)
  }

  /// The sentence is about both clocks.
  @Test func twoMachinesWithoutALookTestOneClock() throws {
    var host = HistoryBuilder(.rate)
    for _ in 0..<2 {
      host.machine(0)
      for _ in 0..<2 { host.register(0) }
      host.bracket = 60
      for _ in 0..<2 {
        host.getClock()
        host.wait(milliseconds: 3000)
      }
    }
    try expectNotTested(Self.rule, host.history, "the guest's clock")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(
      Self.rule, Self.rate(bracket: 40_000).history, "the advance of", "30.0 us")
    try expectInconclusive(Self.rule, Self.rate(milliseconds: 1).history, "the advance of")
  }

  @Test func oneSampleOfEachIsNotTested() throws {
    var host = HistoryBuilder(.rate)
    host.machine(0)
    host.register(0)
    host.look(0)
    host.tick()
    host.getClock()
    try expectNotTested(Self.rule, host.history)
  }

  /// Without the master clock KVM_GET_CLOCK is CLOCK_MONOTONIC_RAW plus a constant, so nothing is predicted for it.
  @Test func withoutTheMasterClockGetClockIsRaw() throws {
    var host = HistoryBuilder(.rate)
    host.machine(0)
    for _ in 0..<2 { host.register(0, msr: MSR.systemTimeOld) }
    host.bracket = 60
    for _ in 0..<2 {
      host.look(0)
      host.tick()
      host.getClock()
      host.wait(milliseconds: 3000)
    }
    try expectHolds(Self.rule, host.history)
  }
}
