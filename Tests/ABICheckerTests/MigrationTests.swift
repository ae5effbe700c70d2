import PVClock
import Testing

@testable import ABIChecker

@Suite struct MigrationTests {
  static let plain = "MIG-PLAIN-CONTINUES"
  static let real = "MIG-REALTIME-CONTINUES"
  static let stopped = "MIG-STOPPED"
  static let oldMSR = "MIG-OLDMSR-STATE"
  static let relation = "MIG-TSC-RELATION"

  /// One move of 40 ms after an age of 20; `fault` acts on the new machine before its first entry.
  static func moved(
    realtime: Bool = false, source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.migration, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.bracket = bracket
    host.wait(milliseconds: 20)
    for id in [0, 1] { host.read(id) }
    host.migrate(realtime: realtime, milliseconds: 40, fault)
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func theClockGoesOnFromTheOneSaved(source: SimulatedTime.Source) throws {
    try expectHolds(Self.plain, Self.moved(source: source).history)
    try expectNotTested(Self.real, Self.moved(source: source).history)
  }

  @Test func withTheRealTimeThePauseCounts() throws {
    try expectHolds(Self.real, Self.moved(realtime: true).history)
    try expectNotTested(Self.plain, Self.moved(realtime: true).history)
  }

  @Test func withoutTheMasterClockThereIsNoRealTime() throws {
    try expectNotTested(
      Self.real, Self.moved(realtime: true, source: .hpet).history, "flags 0x0")
  }

  @Test func aClockThatStartsAgainIsBroken() throws {
    let history = Self.moved { $0.restartClock() }.history
    try expectBroken(
      Self.plain, history, "vcpu0's reading less the clock saved", "the pause does not count",
      "(20.0 ms) too low", "after the move at or above")
  }

  @Test func aPauseThatCountsWithoutTheRealTimeIsBroken() throws {
    let history = Self.moved { $0.stepClock(by: 40_000_000) }.history
    try expectBroken(Self.plain, history, "(40.0 ms) too high")
  }

  @Test func aPauseThatIsLostIsBroken() throws {
    let history = Self.moved(realtime: true) { $0.stepClock(by: -40_000_000) }.history
    try expectBroken(
      Self.real, history, "as CLOCK_REALTIME counted", "at least 40",
      "(40.0 ms) too low")
  }

  @Test func aPauseOfDecadesIsBroken() throws {
    let history = Self.moved(realtime: true) {
      $0.stepClock(by: 1_000_000_000_000_000_000)
    }.history
    try expectBroken(Self.real, history, "too high", "days")
  }

  @Test func aRecordThatTheHostDidNotRegisterIsBroken() throws {
    let history = Self.moved { host in
      for id in [0, 1] { host.vcpus[id]?.wantsPair = false }
      host.vcpus[1]?.wantsRecord = false
    }.history
    try expectBroken(
      Self.plain, history, "vcpu1's reading less the clock saved", "too high")
  }

  @Test func aStepBackOnOneVCPUIsBroken() throws {
    var host = Self.moved()
    host.amend { $0.systemTime &-= 1_000_000 }
    try expectBroken(
      Self.plain, host.history, "vcpu0's reading before it", "vcpu1's reading after the move")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.plain, Self.moved(bracket: 50_000_000).history, "10.0 ms")
    try expectInconclusive(
      Self.real, Self.moved(realtime: true, bracket: 50_000_000).history, "10.0 ms")
  }

  @Test func aRealTimeThatWasSetBackProvesNothing() throws {
    var history = Self.moved(realtime: true).history
    let at = try #require(
      history.events.lastIndex { if case .hostClock = $0.action { true } else { false } })
    history.events[at].action = .hostClock(name: "CLOCK_REALTIME", nanoseconds: 5)
    try expectNotTested(Self.real, history, "set back")
  }

  /// vCPU 0 is told before a move and enters, vCPU 1 after the next one; `drops` the flag in between.
  static func told(enters: Bool = true, drops: Int? = nil) -> History {
    var host = HistoryBuilder(.migration)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.tellStopped(0)
    if enters { host.enter(0) }
    host.migrate { if drops == 0 { $0.records[0x10000]?.flags = .tscStable } }
    host.migrate(telling: 1) { if drops == 1 { $0.vcpus[1]?.isToldStopped = false } }
    return host.history
  }

  @Test func theGuestSeesThatItWasStopped() throws {
    try expectHolds(Self.stopped, Self.told())
  }

  @Test(arguments: [0, 1]) func aFlagThatIsLostIsBroken(vcpu: Int) throws {
    try expectBroken(
      Self.stopped, Self.told(drops: vcpu), "bit 1 set in vcpu\(vcpu)'s first record", "flags 0x1")
  }

  @Test func aRefusalIsBroken() throws {
    var host = Self.moved()
    host.host(.toldStopped(vcpu: 1, errno: "EINVAL"))
    try expectBroken(
      Self.stopped, host.history, "KVM_KVMCLOCK_CTRL to succeed on vcpu1", "EINVAL")
  }

  /// Where no record is registered, KVM has nowhere to say it.
  @Test func aRefusalWithoutARecordIsHonest() throws {
    var host = Self.moved()
    host.run(1, .write(MSR.systemTime, 0))
    host.host(.toldStopped(vcpu: 1, errno: "EINVAL"))
    #expect(try !judge(Self.stopped, host.history).isBroken)
  }

  @Test func oneVCPUOfTwoIsNotEnough() throws {
    for (rule, realtime) in [(Self.plain, false), (Self.real, true)] {
      var history = Self.moved(realtime: realtime).history
      let set = try #require(
        history.events.lastIndex { if case .setClock = $0.action { true } else { false } })
      history.events = history.events.enumerated().filter {
        $0.offset <= set || $0.element.actor != .vcpu(1)
      }.map(\.element)
      try expectNotTested(rule, history, "did not see vcpu1")
    }
  }

  /// A request that no entry served is not part of what is saved.
  @Test func withoutAnEntryItIsNotTested() throws {
    try expectNotTested(Self.stopped, Self.told(enters: false), "before a move")
  }

  @Test func theOldMSRIsForgotten() throws {
    let history = Script.history(of: .migration)
    guard case .observed(let value) = try judge(Self.oldMSR, history) else {
      Issue.record("not observed")
      return
    }
    #expect(value == "after the move bit 0 is set, after vcpu0's own next write of 0x12 clear")
  }

  @Test func withoutTheOldMSRThereIsNothingToForget() throws {
    try expectNotTested(Self.oldMSR, Self.moved().history, "guest on the old MSR")
    try expectNotTested(
      Self.oldMSR, Script.history(of: .migration, source: .hpet), "no master clock")
  }

  @Test func theErrorAtTheSameTSCIsShown() throws {
    let history = Self.moved(realtime: true) { $0.stepClock(by: 1234) }.history
    guard case .observed(let value) = try judge(Self.relation, history) else {
      Issue.record("not observed")
      return
    }
    // 1234 ns and what the bracket around KVM_SET_CLOCK hides.
    #expect(value.contains("vcpu0 +123") && value.contains("vcpu1 +123"), "\(value)")
  }

  @Test func withoutTheSameTSCThereIsNoRelation() throws {
    let history = Self.moved(realtime: true) {
      $0.host(.tscOffset(vcpu: 0, cycles: 5))
      $0.host(.tscOffset(vcpu: 1, cycles: 5))
    }.history
    try expectNotTested(Self.relation, history, "TSC offset")
  }
}
