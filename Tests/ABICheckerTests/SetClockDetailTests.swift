import PVClock
import Testing

@testable import ABIChecker

@Suite struct SetClockExactTests {
  static let exact = "SETCLOCK-EXACT"
  static let noMaster = "SETCLOCK-NONMASTER"

  /// The clock is set to each value, and both vCPUs read; `fault` acts between.
  static func settings(
    _ values: [UInt64] = Script.boundaryValues, msr: UInt32 = MSR.systemTime,
    source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.setClockExact, source: source)
    host.machine(0, 1)
    host.register(0, msr: msr)
    for id in [1, 0, 1] { host.register(id, msr: id == 0 ? msr : MSR.systemTime) }
    host.bracket = bracket
    for value in values {
      host.wait(milliseconds: 1)
      host.setClock(value)
      fault(&host)
      host.getClock()
      for id in [0, 1] { host.read(id) }
    }
    return host
  }

  @Test func anyValueHolds() throws {
    try expectHolds(Self.exact, Self.settings().history)
    try expectHolds(Self.exact, Self.settings(source: .hyperV).history)
    try expectHolds(Self.noMaster, Self.settings(msr: MSR.systemTimeOld).history)
    try expectHolds(Self.noMaster, Self.settings(source: .hpet).history)
  }

  /// Before 5.12: less the time from the snapshot to the call.
  @Test(arguments: [0, 1 << 63, 5_000_000] as [UInt64])
  func aSystemTimeBelowTheValueIsBroken(value: UInt64) throws {
    let history = Self.settings([value]) { $0.stepClock(by: -55_000) }.history
    try expectBroken(
      Self.exact, history, "vcpu1's system_time less the value set (\(value) ns) in [0 ns, 0 ns]",
      "-55000 ns")
  }

  /// The pair is consistent, but a millisecond old: the clock is ahead by as much.
  @Test func anOldSnapshotIsBroken() throws {
    let history = Self.settings([77]) { host in
      host.pair?.cycles -= 2_596_118
      host.refreshAll()
    }.history
    try expectBroken(
      Self.exact, history, "vcpu0's tsc_timestamp less its TSC offset in [70000", "-2592",
      "vcpu0's reading less the value set (77 ns)", "too high")
  }

  @Test func aSettingWithARealtimeIsNotJudged() throws {
    let history = Self.settings([]) { $0.setClock(7, realtime: 7) }.history
    try expectNotTested(Self.exact, history)
  }

  @Test func withoutTheMasterClockItIsNotTested() throws {
    try expectNotTested(
      Self.exact, Self.settings(source: .hpet).history, "PVCLOCK_TSC_STABLE_BIT is clear")
    try expectNotTested(Self.noMaster, Self.settings().history)
  }

  /// Before 5.12 the value is short by part of the call, never by more.
  @Test(arguments: [(-2_000, true), (-55_000, false), (2_000, false)] as [(Int64, Bool)])
  func onlyTheCallsOwnTimeIsTheKnownDeviation(step: Int64, fits: Bool) throws {
    var host = Self.settings([77])
    for place in [0, 1] {
      host.amend(place) { $0.systemTime &+= UInt64(bitPattern: step) }
    }
    guard case .broken(let violations) = try judge(Self.exact, host.history) else {
      Issue.record("not broken")
      return
    }
    #expect(violations.allSatisfy { ($0.fitsDeviation ?? false) == fits })
  }

  @Test func aVCPUThatNeverReadsIsNotTested() throws {
    for (id, msr) in [(Self.exact, MSR.systemTime), (Self.noMaster, MSR.systemTimeOld)] {
      var host = HistoryBuilder(.setClockExact)
      host.machine(0, 1)
      host.register(0, msr: msr)
      for vcpu in [1, 0] { host.register(vcpu, msr: vcpu == 0 ? msr : MSR.systemTime) }
      for value in 0..<20 as Range<UInt64> {
        host.setClock(value)
        host.getClock()
        host.read(0)
      }
      try expectNotTested(id, host.history, "did not see vcpu1")
    }
  }

  @Test func outsideMasterClockModeALowerValueIsBroken() throws {
    let history = Self.settings([0, 5], source: .hpet) { $0.stepClock(by: -9_000) }.history
    try expectBroken(
      Self.noMaster, history, "KVM_GET_CLOCK less the value set (5 ns)", "vcpu0's",
      "too low")
  }

  @Test func outsideMasterClockModeAVCPUThatKeepsTheOldClockIsBroken() throws {
    var host = Self.settings([], msr: MSR.systemTimeOld)
    host.movesBetweenCPUs = false
    host.setClock(1 << 40)
    host.read(0)
    host.vcpus[1]?.wantsRecord = false
    host.read(1)
    try expectBroken(Self.noMaster, host.history, "vcpu1's reading less", "too low")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(
      Self.noMaster, Self.settings(source: .hpet, bracket: 40_000_000).history, "10.0 ms")
  }
}

@Suite struct SetClockFlagsTests {
  static let rule = "SETCLOCK-FLAGS"
  static let ignored = "SETCLOCK-OTHERFLAGS-IGNORED"

  static func flags(
    clockFlags: UInt32 = 0xe, bits: Range<Int> = 0..<32,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.setClockFlags)
    host.clockFlags = clockFlags
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: Int32(clockFlags)))
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    host.getClock()
    for flags in bits.map({ UInt32(1) << $0 }) + [0xa, 2, 8, 0xa, 0xe, 0] {
      host.trySetClock(ClockRecord(clock: 9 << 50, flags: flags, realtime: .max, hostTSC: 7))
      fault(&host)
      host.read(0)
      host.getClock()
    }
    return host
  }

  static func answer(
    to flags: UInt32, _ action: @escaping (ClockRecord) -> Action
  ) -> (inout HistoryBuilder) -> Void {
    { host in
      let at = host.events.count - 1
      switch host.events[at].action {
      case .setClock(let record) where record.flags == flags,
        .setClockRefused(let record, _) where record.flags == flags:
        host.events[at].action = action(record)
      default: break
      }
    }
  }

  @Test func theKnownFlagsAreTakenAndTheOthersRefused() throws {
    try expectHolds(Self.rule, Self.flags().history)
    try expectHolds(Self.ignored, Self.flags().history)
  }

  @Test func withoutARealtimeAllAreRefused() throws {
    try expectHolds(Self.rule, Self.flags(clockFlags: 2).history)
    try expectNotTested(
      Self.ignored, Self.flags(clockFlags: 2).history, "refuses KVM_CLOCK_HOST_TSC: EINVAL")
  }

  @Test(arguments: [1, 0x10, 1 << 31] as [UInt32])
  func aFlagThatIsNotCheckedIsBroken(flags: UInt32) throws {
    let history = Self.flags(Self.answer(to: flags) { .setClock($0) }).history
    try expectBroken(Self.rule, history, "EINVAL for flags \(Hex(flags))", "succeeded")
  }

  @Test func aKnownFlagThatIsTakenWithoutARealtimeIsBroken() throws {
    let history = Self.flags(clockFlags: 2, Self.answer(to: 2) { .setClock($0) }).history
    try expectBroken(Self.rule, history, "flags 0x2: KVM_CAP_ADJUST_CLOCK is 2")
  }

  @Test func aKnownFlagThatIsRefusedIsBroken() throws {
    let history = Self.flags(Self.answer(to: 8) { .setClockRefused($0, error: "EINVAL") }).history
    try expectBroken(Self.rule, history, "success for flags 0x8")
  }

  @Test func anotherErrorIsBroken() throws {
    let history = Self.flags(Self.answer(to: 16) { .setClockRefused($0, error: "EPERM") }).history
    try expectBroken(Self.rule, history, "EINVAL for flags 0x10", "EPERM")
  }

  @Test func aRefusedCallThatSetsTheClockIsBroken() throws {
    let history = Self.flags { host in
      if case .setClockRefused = host.events.last?.action { host.stepClock(by: 1 << 40) }
    }.history
    try expectBroken(
      Self.rule, history, "the advance of vcpu0's reading from", "refused", "1099", "too high")
  }

  @Test func someBitsAreNotAll() throws {
    try expectNotTested(Self.rule, Self.flags(bits: 0..<31).history, "saw 31 different flags")
  }

  @Test func withoutTheCapabilityItIsNotTested() throws {
    var history = Self.flags().history
    history.events.removeFirst()
    try expectNotTested(Self.rule, history, "KVM_CAP_ADJUST_CLOCK was not read")
  }

  @Test func aHostTSCThatIsUsedIsBroken() throws {
    let history = Self.flags { host in
      if case .setClock(let record) = host.events.last?.action, record.flags & 8 != 0 {
        host.stepClock(by: 3_000_000_000)
      }
    }.history
    try expectBroken(Self.ignored, history, "(10133099161583616 ns)", "flags 0xa", "too high")
  }

  /// The sentence names both flags and a realtime without its flag.
  @Test(arguments: [2, 8, 0xa, 0] as [UInt32])
  func aFlagThatWasNotSetIsNotTested(flags: UInt32) throws {
    var host = HistoryBuilder(.setClockFlags)
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    for _ in 0..<4 {
      for other in [2, 8, 0xa, 0] as [UInt32] where other != flags {
        host.trySetClock(ClockRecord(clock: 9 << 50, flags: other, realtime: .max, hostTSC: 7))
        host.read(0)
        host.getClock()
      }
    }
    try expectNotTested(Self.ignored, host.history, "did not see \(Hex(flags))")
  }
}
