import PVClock
import Testing

@testable import ABIChecker

@Suite struct MonotonicTests {
  static let rule = "MONO-VCPU"

  static func loops(
    reads: UInt64 = 100_000, source: SimulatedTime.Source = .tsc,
    _ change: (inout LoopResult) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.schedclock, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.loop(1, reads: reads, change)
    return host
  }

  @Test func aClockThatOnlyGoesOnHolds() throws {
    try expectHolds(Self.rule, Self.loops().history)
  }

  @Test func aStepBackInALoopIsBroken() throws {
    let history = Self.loops {
      ($0.backwards, $0.worst, $0.worstBefore) = (1, -1, 4_242_424_242)
    }.history
    try expectBroken(Self.rule, history, "100000 readings", "1 steps back", "4242424242 ns")
  }

  @Test(arguments: [1, 1_000_000, 1 << 50] as [UInt64])
  func aReadingBelowTheOneBeforeIsBroken(by nanoseconds: UInt64) throws {
    var host = Self.loops()
    for _ in 0..<2 { host.read(0) }
    guard case .read(_, _, let before, _) = host.events[host.events.count - 2].action,
      case .read(_, _, let reading, _) = host.events[host.events.count - 1].action
    else { return }
    host.amend { $0.systemTime &-= reading.value &- before.value &+ nanoseconds }
    try expectBroken(
      Self.rule, host.history, "vcpu0's reading at or above \(before.value) ns",
      "step of -\(nanoseconds) ns")
  }

  /// One vCPU may be behind another; this rule is about each alone.
  @Test func anotherVCPUsReadingIsNotCompared() throws {
    var host = Self.loops()
    host.read(0)
    host.read(1)
    host.amend { $0.systemTime &-= 2_000 }
    try expectHolds(Self.rule, host.history)
  }

  @Test func aSettingBackIsNoStep() throws {
    var host = Self.loops()
    for value in [1 << 63, 5, 0] as [UInt64] {
      host.setClock(value)
      host.read(0)
    }
    try expectHolds(Self.rule, host.history)
  }

  /// The loop counts the step that the host makes on purpose, and its first reading is from before it.
  @Test func aLoopAroundASettingIsNotJudged() throws {
    var host = Self.loops()
    let began = host.begin()
    let first = host.reading(on: 0)
    host.setClock(0)
    host.enter(0)
    let result = LoopResult(
      reads: 2000, backwards: 1, worst: -1_000_000, first: first, last: host.reading(on: 0))
    host.end(.vcpu(0), began, [.looped(guest: "schedclock", result: result)])
    host.read(0)
    try expectHolds(Self.rule, host.history)
  }

  @Test func theWrapOfSystemTimeIsNoStep() throws {
    var host = Self.loops()
    host.setClock(0 &- 10_000)
    for _ in 0..<9 { host.read(0) }
    try expectHolds(Self.rule, host.history)
  }

  @Test func tooFewReadingsInLoopsAreNotTested() throws {
    try expectNotTested(Self.rule, Self.loops(reads: 99_999).history, "99999", "100000")
    try expectNotTested(
      Self.rule, Self.loops(source: .hpet).history, "PVCLOCK_TSC_STABLE_BIT")
  }

  /// The record before was made in an entry that lost the core between its two clocks.
  @Test func withoutTheMasterClockARecordMayStepBackByItsEntry() throws {
    var host = Self.loops()
    host.register(0, msr: MSR.systemTimeOld)
    for _ in 0..<4 {
      host.time.noise = .always(10_000_000)
      host.register(0, msr: MSR.systemTimeOld)
      host.time.noise = .none
      host.register(0, msr: MSR.systemTimeOld)
    }
    try expectHolds(Self.rule, host.history)
  }

  /// 250 parts per billion of 100 s are 25 us; a step of 1 ms is none of a new pair's making.
  @Test func aNewPairExplainsOnlyItsOwnStep() throws {
    var host = Self.loops()
    host.wait(milliseconds: 100_000)
    host.read(0)
    host.register(0, msr: MSR.systemTimeOld)
    host.amend { $0.systemTime &-= 20_000 }
    try expectHolds(Self.rule, host.history)
    host.amend { $0.systemTime &-= 1_000_000 }
    try expectBroken(Self.rule, host.history, "25.0 us")
  }
}
