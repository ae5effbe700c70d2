import PVClock
import Testing

@testable import ABIChecker

@Suite struct RewriterTests {
  static let rule = "REWRITER-KEEPS-TIME"
  static let day: UInt64 = 86_400_000_000_000

  static func rewriter(
    setting: UInt64? = day, reads: UInt64 = 4000,
    msrs: [UInt32] = [MSR.systemTime, MSR.systemTimeOld],
    source: SimulatedTime.Source = .tsc, slip: Int64 = 0,
    _ change: (inout LoopResult) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.rewriter, source: source)
    host.machine(0)
    if let setting { host.setClock(setting) }
    for msr in msrs {
      host.register(0, msr: msr)
      host.loop(0, "rewriter", reads: reads, change)
      host.stepClock(by: slip)
      host.register(0, msr: msr)
    }
    return host
  }

  /// Each of 4000 writes loses 100 ns: no step back, but together 400 us.
  @Test func smallSlipsAddUp() throws {
    for nanoseconds in [-400_000, 400_000] as [Int64] {
      let history = Self.rewriter(slip: nanoseconds).history
      try expectBroken(Self.rule, history, "over 4000 writes of 0x4b564d01", "too ")
    }
  }

  @Test func withoutAReadingAfterTheWritesItIsNotTested() throws {
    var host = HistoryBuilder(.rewriter)
    host.machine(0)
    host.setClock(Self.day)
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host.register(0, msr: msr)
      host.loop(0, "rewriter", reads: 4000)
    }
    try expectNotTested(Self.rule, host.history, "between two readings")
  }

  @Test(arguments: [day, 0, 1 << 63, 0 &- 1_000_000])
  func timeCarriesOnThroughBothMSRs(setting: UInt64) throws {
    try expectHolds(Self.rule, Self.rewriter(setting: setting).history)
    try expectHolds(Self.rule, Self.rewriter(setting: setting, source: .hpet).history)
  }

  /// What SLES 10 saw on Linux 4.2: every write starts the clock again.
  @Test func aRestartIsBroken() throws {
    let history = Self.rewriter { result in
      (result.backwards, result.beyond, result.worst) = (3999, 3999, -Int64(Self.day))
      result.worstBefore = Self.day
      result.last.page.systemTime = 0
    }.history
    try expectBroken(
      Self.rule, history, "4000 writes of 0x4b564d01", "3999 steps back", "86400000000000 ns",
      "4000 writes of 0x12", "vcpu0's reading in the loop, less the value set", "(-24.0 h)")
  }

  @Test func aStepBackIsBrokenWithTheMasterClock() throws {
    let history = Self.rewriter { ($0.backwards, $0.worst) = (1, -5) }.history
    try expectBroken(Self.rule, history, "no step back in 4000 writes of 0x4b564d01", "5 ns")
  }

  /// A clock that stood still shows no step back.
  @Test func aReadingBelowTheTimeSinceTheSettingIsBroken() throws {
    var host = HistoryBuilder(.rewriter)
    host.machine(0)
    host.setClock(Self.day)
    host.wait(milliseconds: 30)
    host.register(0)
    host.loop(0, "rewriter", reads: 4000) { result in
      result.first.page.systemTime &-= 20_000_000
      result.last.page.systemTime &-= 20_000_000
    }
    try expectBroken(Self.rule, host.history, "less the value set", "(20.0 ms) too low")
  }

  /// Without it a step is one only beyond what the write before it took.
  @Test func withoutTheMasterClockOnlyALargeStepIsBroken() throws {
    let small = Self.rewriter(source: .hpet) { ($0.backwards, $0.worst) = (700, -90) }.history
    try expectHolds(Self.rule, small)
    let large = Self.rewriter(source: .hpet) { ($0.backwards, $0.beyond) = (700, 1) }.history
    try expectBroken(Self.rule, large, "larger than the write before it took", "700 steps back")
  }

  @Test func aClockThatRanAheadIsBroken() throws {
    let history = Self.rewriter { $0.last.page.systemTime += Self.day }.history
    try expectBroken(Self.rule, history, "less the value set (86400000000000 ns)", "1.0 days")
  }

  @Test func oneMSROrTooFewWritesAreNotTested() throws {
    try expectNotTested(Self.rule, Self.rewriter(reads: 1999).history, "2000")
    try expectNotTested(
      Self.rule, Self.rewriter(msrs: [MSR.systemTime, MSR.systemTime]).history, "0x4b564d01")
  }

  @Test func writesThatMovedNoVersionAreNotTested() throws {
    try expectNotTested(Self.rule, Self.rewriter { $0.versions = 0 }.history, "moved the version")
  }

  /// Without a large value first a restart would not show.
  @Test func withoutASettingItIsNotTested() throws {
    try expectNotTested(Self.rule, Self.rewriter(setting: nil).history)
    var host = Self.rewriter()
    host.machine(0)
    host.register(0)
    host.loop(0, "rewriter", reads: 4000)
    try expectHolds(Self.rule, host.history)
  }
}

@Suite struct SchedclockTests {
  static let rule = "SCHEDCLOCK-CONSTANT-OFFSET"

  static func guests(
    ids: [Int] = [0, 1, 2, 0], source: SimulatedTime.Source = .tsc, replugs: Bool = true,
    milliseconds: UInt64 = 3, _ change: (inout LoopResult, Int) -> Void = { _, _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.schedclock, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    for (round, id) in ids.enumerated() {
      if id == 2 { host.createVCPU(2) }
      if round == 3, replugs { host.replug(0) }
      host.register(id)
      host.loop(id, milliseconds: milliseconds) { change(&$0, round) }
    }
    return host
  }

  @Test func aConstantOffsetIsEnough() throws {
    try expectHolds(Self.rule, Self.guests().history)
  }

  @Test func aNegativeReadingIsBroken() throws {
    let history = Self.guests { result, round in
      if round == 1 { (result.negative, result.minimum) = (7, -123_456) }
    }.history
    try expectBroken(
      Self.rule, history, "vcpu1 below vcpu0's first one", "7 of 50000 negative", "-123456 ns")
  }

  @Test func aStepBackIsBroken() throws {
    let history = Self.guests { result, round in
      if round == 2 { (result.backwards, result.worst, result.worstBefore) = (2, -31, 999) }
    }.history
    try expectBroken(
      Self.rule, history, "50000 readings of vcpu2", "2 steps back", "31 ns", "999 ns")
  }

  /// vCPU 0 comes back with a clock that starts again.
  @Test func aStartBelowTheEndOfTheLoopBeforeIsBroken() throws {
    let history = Self.guests { result, round in
      if round == 3 { result.first.page.systemTime = 0 }
    }.history
    try expectBroken(Self.rule, history, "vcpu0's reading at or above", "vcpu2's reading before it")
  }

  /// The late vCPU has the pair taken anew: after 100 s that may cost 25 us, not 1 ms.
  @Test func aNewPairExplainsOnlyItsOwnStep() throws {
    for (step, isFault) in [(20_000, false), (1_000_000, true)] as [(UInt64, Bool)] {
      let history = Self.guests(milliseconds: 100_000) { result, round in
        if round == 2 { result.first.page.systemTime &-= step }
      }.history
      #expect(try judge(Self.rule, history).isBroken == isFault)
    }
  }

  @Test func loopsSideBySideHaveNoOrder() throws {
    var host = Self.guests()
    host.together([(1, "schedclock"), (0, "schedclock")], reads: 9)
    try expectHolds(Self.rule, host.history)
  }

  @Test func anotherMachineIsAnotherClock() throws {
    var host = Self.guests()
    host.events += Self.guests().events.map { event in
      var event = event
      for path in [\Event.began, \Event.ended] {
        event[keyPath: path].raw += 1_000_000_000_000
        event[keyPath: path].tsc += 2_596_118_000_000
      }
      return event
    }
    try expectHolds(Self.rule, host.history)
  }

  /// Each vCPU counts, not the number of them.
  @Test func aVCPUThatDoesNotReadIsNotTested() throws {
    try expectNotTested(Self.rule, Self.guests(ids: [0, 0, 2, 0]).history, "did not see vcpu1")
  }

  @Test func withoutALateVCPUOrAReplugItIsNotTested() throws {
    try expectNotTested(Self.rule, Self.guests(ids: [0, 1, 0, 0]).history)
    try expectNotTested(Self.rule, Self.guests(replugs: false).history)
    try expectNotTested(Self.rule, Self.guests(source: .hpet).history, "PVCLOCK_TSC_STABLE_BIT")
  }
}
