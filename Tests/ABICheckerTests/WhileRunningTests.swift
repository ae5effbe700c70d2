import PVClock
import Testing

@testable import ABIChecker

@Suite struct WhileRunningTests {
  static let setClock = "SETCLOCK-REACHES-RUNNING"
  static let stable = "STABLE-REACHES-RUNNING"
  static let pair = "RUNNING-ONE-PAIR"
  static let hour: UInt64 = 3_600_000_000_000

  /// Settings while both vCPUs run; `late` says whose record is from before the call for a millisecond after it.
  static func settings(
    late: Set<Int> = [], source: SimulatedTime.Source = .tsc, knowsOffset: Bool = true,
    _ change: (Int, inout WatchResult) -> Void = { _, _ in }
  ) -> History {
    var host = HistoryBuilder(.running, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.run([0, 1], change) { host, look in
      for round in 1...12 as ClosedRange<UInt64> {
        host.setClock(round * hour)
        let waiting = late.filter { host.vcpus[$0]!.wantsRecord }
        for id in waiting { host.vcpus[id]?.wantsRecord = false }
        look(&host)
        host.wait(milliseconds: 1)
        look(&host)
        for id in waiting { host.vcpus[id]?.wantsRecord = true }
        host.wait(milliseconds: 1)
        look(&host)
      }
    }
    var history = host.history
    if !knowsOffset {
      history.events.removeAll { if case .tscOffset = $0.action { true } else { false } }
    }
    return history
  }

  @Test func runningVCPUsThatReadTheNewRecordHold() throws {
    for id in [Self.setClock, Self.pair] { try expectHolds(id, Self.settings()) }
  }

  @Test func aRecordFromBeforeTheCallIsBroken() throws {
    try expectBroken(
      Self.setClock, Self.settings(late: [1]), "vcpu1's reading of version",
      "cycles after KVM_SET_CLOCK returned, less the value set (7200000000000 ns)",
      "(3600.0 s) too low")
  }

  @Test func twoPairsAtOneTimeAreBroken() throws {
    try expectBroken(
      Self.pair, Self.settings(late: [1]), "one pair on vcpu1 and vcpu0 from host TSC",
      "system_time 3600000000000")
  }

  /// A call that is under way may show already.
  @Test func theNextValueMayShowBeforeTheCallReturns() throws {
    var host = HistoryBuilder(.running)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.run([0, 1]) { host, look in
      for round in 1...12 as ClosedRange<UInt64> {
        let began = host.begin()
        look(&host)
        host.restart(at: round * Self.hour)
        look(&host)
        host.end(.host, began, [.setClock(ClockRecord(clock: round * Self.hour))])
        host.wait(milliseconds: 1)
        look(&host)
      }
    }
    for id in [Self.setClock, Self.pair] { try expectHolds(id, host.history) }
  }

  @Test func whoeverReadTooLittleIsNotTested() throws {
    for id in [Self.setClock, Self.pair] {
      try expectNotTested(id, Self.settings { $1.stretches.removeSubrange(1...) }, "saw")
      try expectNotTested(id, Self.settings(source: .hpet), "do not run on the TSC")
      try expectNotTested(id, Self.settings(knowsOffset: false), "TSC offset of vcpu")
    }
  }

  /// vCPU 0 changes its MSR while vCPU 1 runs, which does not hear of it if `isLate`.
  static func changes(isLate: Bool = false, _ msrs: [UInt32]) -> History {
    var host = HistoryBuilder(.running)
    host.machine(0, 1)
    host.movesBetweenCPUs = false
    for id in [0, 1, 0] { host.register(id) }
    host.run([1]) { host, look in
      for msr in msrs {
        host.register(0, msr: msr)
        if isLate { host.vcpus[1]?.wantsRecord = false }
        look(&host)
        host.wait(milliseconds: 1)
        look(&host)
      }
      host.enter(0)
    }
    return host.history
  }

  static let both = [
    MSR.systemTimeOld, MSR.systemTime, MSR.systemTimeOld, MSR.systemTime, MSR.systemTimeOld,
  ]

  @Test func bitZeroThatGoesAndComesHolds() throws {
    try expectHolds(Self.stable, Self.changes(Self.both))
  }

  @Test func bitZeroThatStaysIsBroken() throws {
    try expectBroken(
      Self.stable, Self.changes(isLate: true, Self.both),
      "bit 0 clear in vcpu1's record: vcpu0 read it so before", "flags 0x1")
  }

  @Test func withoutAChangeNothingIsShown() throws {
    try expectNotTested(Self.stable, Self.changes([MSR.systemTime, MSR.systemTime]), "did not see")
    try expectNotTested(Self.stable, Self.changes([MSR.systemTimeOld]), "did not see set")
  }
}
