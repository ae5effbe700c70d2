import PVClock
import Testing

@testable import ABIChecker

@Suite struct GetClockFieldsTests {
  static let rule = "GETCLOCK-FIELDS"
  static let noMaster = "GETCLOCK-NONMASTER-FIELDS"

  /// KVM_GET_CLOCK between readings of CLOCK_REALTIME; `change` gets each answer, `meanwhile` acts before it.
  static func answers(
    clockFlags: UInt32 = 0xe, source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ change: (inout ClockRecord) -> Void = { _ in },
    meanwhile: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.getClock, source: source)
    host.clockFlags = clockFlags
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: Int32(clockFlags)))
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    host.bracket = bracket
    for _ in 0..<8 {
      host.readRealtime()
      meanwhile(&host)
      host.wholeClock()
      host.amendClock(change)
      host.readRealtime()
    }
    return host.history
  }

  @Test func theHostsOwnClocksHold() throws {
    try expectHolds(Self.rule, Self.answers())
    try expectHolds(Self.rule, Self.answers(source: .hyperV))
  }

  /// CLOCK_MONOTONIC in its place; and a realtime that is 20 us old, or to come.
  @Test(arguments: [0 &- 1_700_000_000_000_000_000, 0 &- 20_000, 20_000] as [UInt64])
  func anotherRealtimeIsBroken(by step: UInt64) throws {
    try expectBroken(
      Self.rule, Self.answers { $0.realtime &+= step },
      "realtime, counted from CLOCK_REALTIME before the call, 17000026963", "too ")
  }

  @Test(arguments: [0 &- 20_000, 20_000] as [UInt64])
  func aHostTSCOutsideTheCallIsBroken(by cycles: UInt64) throws {
    try expectBroken(
      Self.rule, Self.answers { $0.hostTSC &+= cycles }, "host_tsc in [70000", "before and after")
  }

  @Test func aFieldWithoutItsFlagIsBroken() throws {
    try expectBroken(Self.rule, Self.answers { $0.flags = 0xa }, "each field without its flag")
    try expectBroken(Self.rule, Self.answers { $0.flags = 6 }, "flags 0x6, realtime 17")
  }

  @Test func anotherFlagIsBroken() throws {
    try expectBroken(
      Self.rule, Self.answers { $0.flags |= 0x10 }, "KVM_CAP_ADJUST_CLOCK, 0xe", "flags 0x1e")
  }

  @Test func aReservedWordIsBroken() throws {
    try expectBroken(
      Self.rule, Self.answers { $0.reserved = [0xa5a5_a5a5, 0, 0, 0, 0] }, "0xa5a5a5a5")
  }

  /// Somebody sets the host's clock between the two readings.
  @Test(arguments: [1 << 40, 0 &- 1 << 40, 50_000, 0 &- 50_000] as [UInt64])
  func aStepOfRealtimeIsInconclusive(by step: UInt64) throws {
    try expectInconclusive(
      Self.rule, Self.answers(meanwhile: { $0.realtimeAhead &+= step }),
      "CLOCK_REALTIME was stepped by")
  }

  /// A step too small to be noticed is no fault of KVM's.
  @Test(arguments: [2_000, 0 &- 2_000] as [UInt64])
  func aSmallStepIsNotBroken(by step: UInt64) throws {
    let history = Self.answers(meanwhile: { $0.realtimeAhead &+= step })
    #expect(try !judge(Self.rule, history).isBroken)
  }

  @Test func withoutTheFlagsItIsNotTested() throws {
    try expectNotTested(
      Self.rule, Self.answers(clockFlags: 2), "flags 0x2: no realtime (4) or no host_tsc (8)")
    try expectNotTested(Self.rule, Self.answers(source: .hpet), "flags 0x0: no realtime")
  }

  /// The sentence says that reserved words are 0, and that no flag is outside of the capability.
  @Test func reservedWordsAndTheCapabilityHaveToBeRead() throws {
    try expectNotTested(Self.rule, Self.answers { $0.reserved = nil }, "reserved words")
    var history = Self.answers()
    history.events.removeFirst()
    try expectNotTested(Self.rule, history, "KVM_CAP_ADJUST_CLOCK")
    try expectNotTested(
      Self.noMaster, Self.answers(source: .hpet) { $0.reserved = nil }, "reserved words")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.rule, Self.answers(bracket: 40_000_000), "10.0 ms")
  }

  @Test func withoutTheMasterClockAllIsZero() throws {
    try expectHolds(Self.noMaster, Self.answers(source: .hpet))
    try expectBroken(
      Self.noMaster, Self.answers(source: .hpet) { ($0.flags, $0.realtime) = (4, 17) },
      "without KVM_CLOCK_TSC_STABLE", "flags 0x4, realtime 17")
    try expectBroken(Self.noMaster, Self.answers(source: .hpet) { $0.hostTSC = 1 }, "host_tsc 1")
    try expectNotTested(Self.noMaster, Self.answers())
  }
}

@Suite struct GetClockAdvanceTests {
  static let mono = "GETCLOCK-MONO"
  static let isRaw = "GETCLOCK-NONMASTER-IS-RAW"

  static func advance(
    msr: UInt32 = MSR.systemTime, source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }, race: (inout ClockCalls) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.getClockNoMaster, source: source)
    host.machine(0, 1)
    host.register(0, msr: msr)
    for _ in 0..<2 { host.register(1) }
    host.enter(0)
    host.raceAlone(race)
    host.race(race)
    host.bracket = bracket
    for _ in 0..<10 {
      host.getClock()
      host.wait(milliseconds: 3)
      fault(&host)
      host.enter(1)
    }
    return host.history
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func aClockThatGoesOnHolds(source: SimulatedTime.Source) throws {
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      try expectHolds(Self.mono, Self.advance(msr: msr, source: source))
    }
    try expectHolds(Self.isRaw, Self.advance(msr: MSR.systemTimeOld, source: source))
  }

  @Test(arguments: [MSR.systemTime, MSR.systemTimeOld])
  func aStepBackOfOneNanosecondIsBroken(msr: UInt32) throws {
    var host = HistoryBuilder(.getClock)
    host.machine(0)
    host.register(0, msr: msr)
    host.getClock()
    guard case .getClock(let before) = host.events.last?.action else { return }
    host.getClock()
    host.amendClock { $0.clock = before.clock - 1 }
    try expectBroken(Self.mono, host.history, "at or above \(before.clock) ns", "a step of -1 ns")
  }

  @Test func aThreadBehindAnotherIsBroken() throws {
    let history = Self.advance(race: {
      ($0.backwards, $0.worst, $0.worstBefore, $0.worstAfter) = (3, -70, 1070, 1000)
    })
    try expectBroken(
      Self.mono, history, "2000 calls on 2 threads", "3 steps back, the worst by 70 ns: 1070 ns")
  }

  @Test func aSettingBetweenIsNoStep() throws {
    try expectHolds(Self.mono, Self.advance { $0.setClock(0) })
  }

  /// A new pair for the master clock makes good what its rate was off.
  @Test func aNewPairIsNoStep() throws {
    let history = Self.advance { host in
      host.wait(milliseconds: 9_000)
      host.getClock()
      for msr in [MSR.systemTimeOld, MSR.systemTime] { host.register(0, msr: msr) }
    }
    try expectHolds(Self.mono, history)
  }

  @Test func fewCallsAreNotTested() throws {
    try expectNotTested(Self.mono, Self.advance(race: { $0.calls = 999 }), "saw 999 calls")
  }

  /// The sentence says "on several threads, and while vCPUs run".
  @Test func oneThreadOrVCPUsAtRestAreNotTested() throws {
    try expectNotTested(Self.mono, Self.advance(race: { $0.threads = 1 }), "several threads")
    var host = HistoryBuilder(.getClock)
    host.machine(0)
    host.register(0)
    for _ in 0..<4 { host.raceAlone() }
    try expectNotTested(Self.mono, host.history, "while a vCPU ran")
  }

  /// kvmclock on a clock that NTP slews by 500 ppm: 1.5 us in 3 ms, and it adds up.
  @Test func aClockThatFollowsNTPIsBroken() throws {
    try expectBroken(
      Self.isRaw, Self.advance(msr: MSR.systemTimeOld) { $0.stepClock(by: 1_500) },
      "the advance of KVM_GET_CLOCK from", "CLOCK_MONOTONIC_RAW counted", "too high")
  }

  @Test func aConstantThatAChangeOfModeMovesIsBroken() throws {
    let history = Self.advance(msr: MSR.systemTimeOld) { host in
      for msr in [MSR.systemTime, MSR.systemTimeOld] { host.register(0, msr: msr) }
      host.stepClock(by: -1_000)
    }
    try expectBroken(Self.isRaw, history, "too low")
  }

  @Test func theMasterClockIsAnotherRules() throws {
    try expectNotTested(Self.isRaw, Self.advance())
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(
      Self.isRaw, Self.advance(source: .hpet, bracket: 40_000_000), "10.0 ms")
  }
}
