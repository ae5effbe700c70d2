import PVClock
import Testing

@testable import ABIChecker

@Suite struct ClockStartTests {
  static let zero = "CLOCK-ZERO-AT-VM-CREATE"
  static let flags = "GETCLOCK-NOVCPU-FLAGS"

  /// Two machines as the scenario makes them; `fault` acts on a new machine, `later` once its vCPUs are there.
  static func starts(
    source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in },
    later: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.clockStart, source: source)
    host.bracket = bracket
    for _ in 0..<2 {
      host.createMachine()
      fault(&host)
      for _ in 0..<2 { host.wholeClock() }
      host.wait(milliseconds: 2)
      for id in [0, 1] { host.createVCPU(id) }
      later(&host)
      host.wholeClock()
      for id in [0, 1] { host.register(id) }
    }
    return host.history
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func aNewClockHolds(source: SimulatedTime.Source) throws {
    for id in [Self.zero, Self.flags] { try expectHolds(id, Self.starts(source: source)) }
  }

  /// The host has been up for 45 minutes.
  @Test func aClockThatStartsWithTheHostIsBroken() throws {
    try expectBroken(
      Self.zero, Self.starts { $0.clockOffset = 0 }, "KVM_GET_CLOCK in [", "too high",
      "since KVM_CREATE_VM", "too high")
  }

  @Test(arguments: [-10_000, 10_000] as [Int64])
  func aFewMicrosecondsAreBroken(step: Int64) throws {
    try expectBroken(Self.zero, Self.starts { $0.stepClock(by: step) }, "too ")
  }

  @Test func aClockThatStartsWithTheVCPUsIsBroken() throws {
    try expectBroken(
      Self.zero, Self.starts(later: { $0.restartClock() }), "vcpu0's reading in [20", "too low")
  }

  /// Of the clock's start every view has to tell: before a vCPU exists, with vCPUs, and a guest's own.
  @Test func aClockThatNoGuestReadIsNotTested() throws {
    var history = Self.starts()
    history.events += Self.starts().events
    history.events.removeAll { $0.actor != .host }
    try expectNotTested(Self.zero, history, "a guest's reading")
  }

  @Test func aClockThatWasSetIsNotJudged() throws {
    try expectNotTested(Self.zero, Self.starts { $0.setClock(5) })
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.zero, Self.starts(bracket: 40_000_000), "more than 49999998 ns")
  }

  @Test func aFlagBeforeTheFirstRunIsBroken() throws {
    let history = Self.starts(later: { host in
      host.wholeClock()
      host.amendClock { ($0.flags, $0.hostTSC) = (0xa, 4711) }
    })
    try expectBroken(
      Self.flags, history, "with 2 vCPUs that never ran", "flags 0xa", "host_tsc 4711")
  }

  @Test func aReservedWordIsBroken() throws {
    let history = Self.starts { host in
      host.wholeClock()
      host.amendClock { $0.reserved = [0, 0, 0, 0xa5a5_a5a5, 0] }
    }
    try expectBroken(Self.flags, history, "with 0 vCPUs", "\"0x0\", \"0xa5a5a5a5\", \"0x0\"")
  }

  @Test func afterARunAndAfterASettingAFlagIsNoFault() throws {
    var host = HistoryBuilder(.clockStart)
    for _ in 0..<5 {
      host.machine(0)
      host.register(0)
      host.wholeClock()
      host.machine(0)
      host.setClock(1)
      host.wholeClock()
    }
    try expectNotTested(Self.flags, host.history, "vCPUs that never ran")
  }
}

@Suite struct NonMasterBracketTests {
  static let rule = "CLOCK-BRACKET-NONMASTER"

  static func brackets(
    msr: UInt32 = MSR.systemTimeOld, source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.getClockNoMaster, source: source)
    host.machine(0, 1)
    host.register(0, msr: msr)
    for _ in 0..<2 { host.register(1) }
    host.bracket = bracket
    for _ in 0..<3 {
      for id in [0, 1] {
        host.getClock()
        host.read(id)
        fault(&host)
        host.getClock()
      }
    }
    return host.history
  }

  @Test func readingsBetweenHold() throws {
    try expectHolds(Self.rule, Self.brackets())
    try expectHolds(Self.rule, Self.brackets(msr: MSR.systemTime, source: .hpet))
  }

  /// The monotonic clock differs from the raw one by what NTP made of it.
  @Test func aReadingThatIsTooLowIsBroken() throws {
    try expectBroken(
      Self.rule, Self.brackets { $0.amend { $0.systemTime -= 5_000 } }, "vcpu1's reading, counted",
      "too low")
  }

  /// Ahead by the entry's own 3 us and not more.
  @Test func aReadingThatIsTooHighIsBroken() throws {
    try expectBroken(
      Self.rule, Self.brackets { $0.amend { $0.systemTime += 9_000 } }, "too high")
    try expectHolds(Self.rule, Self.brackets { $0.amend { $0.systemTime += 2_000 } })
  }

  @Test func theMasterClockIsAnotherRules() throws {
    try expectNotTested(Self.rule, Self.brackets(msr: MSR.systemTime))
  }

  @Test func aVCPUThatNeverReadsIsNotTested() throws {
    var history = Self.brackets()
    history.events += Self.brackets().events
    history.events.removeAll { $0.actor == .vcpu(1) }
    try expectNotTested(Self.rule, history, "did not see vcpu1")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.rule, Self.brackets(bracket: 40_000_000), "10.0 ms")
  }
}
