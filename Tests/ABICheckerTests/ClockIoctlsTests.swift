import PVClock
import Testing

@testable import ABIChecker

@Suite struct SetClockTests {
  static let rule = "SETCLOCK-SETS-ALL-VCPUS"

  /// The clock is set to each value and both vCPUs read; `fault` acts between.
  static func settings(
    _ values: [UInt64] = [0, 1, 1 << 63, 0 &- 2_000, 77], source: SimulatedTime.Source = .tsc,
    bracket: UInt64 = 3_000, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.setClock, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.bracket = bracket
    for value in values {
      host.setClock(value)
      for id in [0, 1] {
        host.read(id)
        fault(&host)
      }
    }
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func anyValueHoldsForwardAndBackward(source: SimulatedTime.Source) throws {
    try expectHolds(Self.rule, Self.settings(source: source).history)
  }

  /// Before 5.12: a little below the value set.
  @Test(arguments: [0, 1 << 63, 1000] as [UInt64])
  func aReadingBelowTheValueIsBroken(value: UInt64) throws {
    let history = Self.settings([value]) { host in
      host.amend { $0.systemTime &-= 55_000 }
    }.history
    try expectBroken(
      Self.rule, history, "less the value set (\(value) ns) in [495 ns, ", "-51361 ns", "too low")
  }

  @Test func aVCPUThatKeepsTheOldClockIsBroken() throws {
    var host = Self.settings([])
    host.setClock(1 << 40)
    host.read(0)
    host.vcpus[1]?.wantsRecord = false
    host.read(1)
    try expectBroken(
      Self.rule, host.history, "vcpu1's reading less the value set (1099511627776 ns)",
      "vcpu1's reading at or above 10995116", "vcpu0's reading before it")
  }

  @Test func aReadingAboveIsBroken() throws {
    let history = Self.settings([77]) { host in
      host.amend { $0.systemTime += 8_000_000_000 }
    }.history
    try expectBroken(Self.rule, history, "8.0 s", "counted since KVM_SET_CLOCK")
  }

  /// Set to 3 h, vCPU 1 a little behind vCPU 0 though it reads later.
  @Test func aSecondVCPUBehindTheFirstIsBroken() throws {
    var host = Self.settings([])
    host.setClock(10_800_000_000_000)
    host.wait(milliseconds: 2)
    for id in [0, 1] { host.read(id) }
    host.amend { $0.systemTime &-= 100_000 }
    try expectBroken(
      Self.rule, host.history, "vcpu1's reading at or above 108000",
      "vcpu0's reading before it")
  }

  @Test func oneVCPUIsNotEnough() throws {
    var host = HistoryBuilder(.setClock)
    host.machine(0)
    host.register(0)
    for value in 0..<20 as Range<UInt64> {
      host.setClock(value)
      host.read(0)
    }
    try expectNotTested(Self.rule, host.history, "two vCPUs")
  }

  /// The sentence says "every vCPU".
  @Test func aVCPUThatNeverReadsIsNotTested() throws {
    var host = HistoryBuilder(.setClock)
    host.machine(0, 1, 2)
    for id in [0, 1, 2, 0, 1] { host.register(id) }
    for value in [0, 1, 1 << 63, 0 &- 2_000, 77] as [UInt64] {
      host.setClock(value)
      for id in [0, 1] { host.read(id) }
    }
    try expectNotTested(Self.rule, host.history, "did not see vcpu2")
  }

  /// The sentence says "forward or backward, modulo 2^64".
  @Test(
    arguments: [
      ([1, 2, 3, 4, 5, 6], "forward"),
      ([1 << 60, 1 << 61, 1 << 62, 1 << 63, 0 &- 2_000], "backward"),
      ([1 << 60, 1 << 61, 1 << 62, 1 << 63, 5], "past 2^64"),
    ] as [([UInt64], String)])
  func aDirectionThatWasNotSeenIsNotTested(values: [UInt64], missing: String) throws {
    try expectNotTested(Self.rule, Self.settings(values).history, missing)
  }

  /// That vCPU 1 is above vCPU 0 says nothing of the value that was set.
  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(
      Self.rule, Self.settings(Array(repeating: 5, count: 12), bracket: 40_000_000).history,
      "10.0 ms")
  }

  /// Two loops side by side: which of them read first nobody knows.
  @Test func loopsSideBySideHaveNoOrder() throws {
    var host = Self.settings([])
    for _ in 0..<6 {
      host.setClock(1000)
      host.together([(1, "rewriter"), (0, "rewriter")], reads: 2000)
      host.events.swapAt(host.events.count - 1, host.events.count - 2)
    }
    #expect(try !judge(Self.rule, host.history).isBroken)
  }

  /// A guest that was running when the clock was set may have read before.
  @Test func aLoopAroundTheSettingIsNotJudged() throws {
    var host = Self.settings([])
    for _ in 0..<6 {
      let began = host.begin()
      let first = host.reading(on: 0)
      host.setClock(1 << 50)
      host.wait(milliseconds: 1)
      let result = LoopResult(reads: 9, first: first, last: host.reading(on: 0))
      host.end(.vcpu(0), began, [.looped(guest: "schedclock", result: result)])
    }
    #expect(try !judge(Self.rule, host.history).isBroken)
  }
}

@Suite struct GuestViewTests {
  static let rule = "GETCLOCK-IS-GUEST-VIEW"

  static func views(
    source: SimulatedTime.Source = .tsc, tscOffset: UInt64 = 12_345,
    _ change: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(source: source)
    host.machine(0, 1, tscOffset: tscOffset)
    for id in [0, 1, 0] { host.register(id) }
    host.wait(milliseconds: 500)
    for id in [0, 1] { host.look(id) }
    host.getClock()
    change(&host)
    for id in [0, 1] { host.look(id) }
    return host
  }

  /// Changes the clock or the flags that the last `KVM_GET_CLOCK` returned.
  static func answer(
    _ change: @escaping (inout ClockRecord) -> Void
  ) -> (inout HistoryBuilder) -> Void {
    { host in
      guard case .getClock(var record) = host.events[host.events.count - 1].action else { return }
      change(&record)
      host.events[host.events.count - 1].action = .getClock(record)
    }
  }

  @Test(arguments: [0, 12_345, 1 << 63, .max] as [UInt64])
  func theSamePairHoldsWhateverTheOffset(offset: UInt64) throws {
    try expectHolds(Self.rule, Self.views(tscOffset: offset).history)
  }

  /// Both sides truncate the same product of the same cycles.
  @Test func oneNanosecondIsBroken() throws {
    try expectBroken(
      Self.rule, Self.views(Self.answer { $0.clock += 1 }).history, "[0 ns, 0 ns]",
      "1 ns too high")
    try expectBroken(
      Self.rule, Self.views(Self.answer { $0.clock -= 1 }).history, "1 ns too low")
  }

  /// The offset of the first machine's vCPU is not the second one's.
  @Test func aSecondMachineWhoseOffsetIsNotNotedIsNoFault() throws {
    var host = Self.views()
    host.machine(0, 1, tscOffset: 1 << 54)
    host.events.removeAll {
      if case .tscOffset(_, 1 << 54) = $0.action { true } else { false }
    }
    for id in [0, 1, 0] { host.register(id) }
    for id in [0, 1] { host.look(id) }
    host.getClock()
    for id in [0, 1] { host.look(id) }
    try expectHolds(Self.rule, host.history)
  }

  /// The record at the old address stays as it was when vCPU 0 moved its record away.
  @Test func aRecordThatWasGivenUpIsNotCompared() throws {
    let history = Self.views { host in
      host.register(0, at: 0x20000)
      host.setClock(5)
      for id in [0, 1] { host.enter(id) }
      host.look(0, at: 0x10000)
      host.getClock()
      host.look(0, at: 0x10000)
      for id in [0, 1] { host.look(id) }
      host.getClock()
    }.history
    try expectHolds(Self.rule, history)
  }

  @Test func anotherHostTSCIsBroken() throws {
    try expectBroken(
      Self.rule, Self.views(Self.answer { $0.hostTSC -= 2_596_118 }).history, "(1.0 ms)")
  }

  @Test func withoutTheFlagsItIsNotTested() throws {
    for flags in [0, 2, 8] as [UInt32] {
      try expectNotTested(
        Self.rule, Self.views(Self.answer { $0.flags = flags }).history, "flags \(Hex(flags))")
    }
    try expectNotTested(Self.rule, Self.views(source: .hpet).history, "flags 0x0")
  }

  @Test func aRecordThatChangedBetweenIsNotCompared() throws {
    try expectNotTested(
      Self.rule,
      Self.views { host in
        host.setClock(0)
        for id in [0, 1] { host.enter(id) }
      }.history)
  }

  /// vCPU 1 enters for the first time, which takes a new pair; vCPU 0's record is old until it enters, too.
  @Test func aRecordThatWasNotUpdatedYetIsNoFault() throws {
    var host = HistoryBuilder()
    host.machine(0, 1)
    host.register(0)
    host.wait(milliseconds: 2000)
    host.look(0)
    host.register(1)
    host.getClock()
    host.look(0)
    host.getClock()
    host.look(0)
    try expectNotTested(Self.rule, host.history)
  }
}
