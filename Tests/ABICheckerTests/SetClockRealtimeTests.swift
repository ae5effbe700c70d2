import PVClock
import Testing

@testable import ABIChecker

@Suite struct SetClockRealtimeTests {
  static let forward = "SETCLOCK-REALTIME-FWD"
  static let noBack = "SETCLOCK-REALTIME-NOBACK"
  static let roundtrip = "GETSET-ROUNDTRIP"

  /// Settings with real times so far from now, by which both vCPUs read; `fault` acts between.
  static func settings(
    _ shifts: [Int64], clockFlags: UInt32 = 0xe, source: SimulatedTime.Source = .tsc,
    bracket: UInt64 = 3_000, _ fault: (inout HistoryBuilder) -> Void = { _ in },
    meanwhile: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.setClockRealtime, source: source)
    host.clockFlags = clockFlags
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.bracket = bracket
    for shift in shifts {
      host.readRealtime()
      let realtime = host.realtime &+ UInt64(bitPattern: shift)
      meanwhile(&host)
      host.trySetClock(ClockRecord(clock: 1 << 63, flags: 4, realtime: realtime))
      host.readRealtime()
      fault(&host)
      host.getClock()
      for id in [0, 1] { host.read(id) }
    }
    return host.history
  }

  static let past: [Int64] = [-180_000_000_000, -1_000_000, -1_700_002_000_000_000_000]
  static let future: [Int64] = [60_000_000_000, 1 << 60, .max]

  @Test(arguments: SimulatedTime.Source.allCases)
  func pastAndFutureHold(source: SimulatedTime.Source) throws {
    try expectHolds(Self.forward, Self.settings(Self.past, source: source))
    try expectHolds(Self.noBack, Self.settings(Self.future, source: source))
  }

  @Test func oneSaysNothingOfTheOther() throws {
    try expectNotTested(Self.forward, Self.settings(Self.future))
    try expectNotTested(Self.noBack, Self.settings(Self.past))
  }

  /// Three minutes that are not added, or twice.
  @Test(arguments: [-180_000_000_000, 180_000_000_000] as [Int64])
  func anotherDifferenceIsBroken(step: Int64) throws {
    let history = Self.settings(Self.past, { $0.stepClock(by: step) })
    try expectBroken(
      Self.forward, history, "KVM_GET_CLOCK less the value set (9223372036854775808 ns)",
      "vcpu1's reading less", "(180.0 s) too ")
  }

  /// What goes beyond the call's own time shows.
  @Test(arguments: [-40_000, 40_000] as [Int64])
  func aFewMicrosecondsAreBroken(step: Int64) throws {
    try expectBroken(Self.forward, Self.settings(Self.past, { $0.stepClock(by: step) }), "too ")
    try expectBroken(Self.noBack, Self.settings(Self.future, { $0.stepClock(by: step) }), "too ")
  }

  @Test func aClockThatGoesBackIsBroken() throws {
    let history = Self.settings(Self.future, { $0.stepClock(by: -60_000_000_000) })
    try expectBroken(
      Self.noBack, history, "KVM_GET_CLOCK less the value set (9223372036854775808 ns)",
      "before realtime (17", "(60.0 s) too low")
  }

  @Test func aStepOfRealtimeIsInconclusive() throws {
    for step in [1 << 35, 0 &- 1 << 35] as [UInt64] {
      try expectInconclusive(
        Self.forward, Self.settings(Self.past, meanwhile: { $0.realtimeAhead &+= step }),
        "was stepped by")
      try expectInconclusive(
        Self.noBack, Self.settings(Self.future, meanwhile: { $0.realtimeAhead &+= step }),
        "was stepped by")
    }
  }

  @Test func aSmallStepOfRealtimeIsNotBroken() throws {
    for step in [2_000, 0 &- 2_000] as [UInt64] {
      try expectHolds(
        Self.forward, Self.settings(Self.past, meanwhile: { $0.realtimeAhead &+= step }))
    }
  }

  @Test func aRealtimeOfNowIsNeither() throws {
    for id in [Self.forward, Self.noBack] {
      try expectNotTested(id, Self.settings([0, 1000, -1000, 3000]))
    }
  }

  @Test func aKernelWithoutItIsNotTested() throws {
    for id in [Self.forward, Self.noBack] {
      try expectNotTested(
        id, Self.settings(Self.past, clockFlags: 2), "refuses KVM_CLOCK_REALTIME: EINVAL")
    }
    try expectNotTested(Self.roundtrip, Self.roundtrips(clockFlags: 2), "flags 0x2: no realtime")
    try expectNotTested(Self.roundtrip, Self.roundtrips(source: .hpet), "flags 0x0: no realtime")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.forward, Self.settings(Self.past, bracket: 40_000_000), "10.0 ms")
    try expectInconclusive(Self.noBack, Self.settings(Self.future, bracket: 40_000_000), "10.0 ms")
  }

  /// What KVM_GET_CLOCK returned is set 20 ms later.
  static func roundtrips(
    clockFlags: UInt32 = 0xe, source: SimulatedTime.Source = .tsc,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.setClockRealtime, source: source)
    host.clockFlags = clockFlags
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    for _ in 0..<3 {
      host.getClock()
      guard case .getClock(let record) = host.events.last?.action else { break }
      host.wait(milliseconds: 20)
      host.readRealtime()
      host.trySetClock(record)
      fault(&host)
      host.readRealtime()
      host.getClock()
      host.read(0)
    }
    return host.history
  }

  @Test func aRoundtripHolds() throws {
    try expectHolds(Self.roundtrip, Self.roundtrips())
  }

  /// The same clock with another realtime is not what KVM_GET_CLOCK returned.
  @Test func anotherRealtimeIsNoRoundtrip() throws {
    var host = HistoryBuilder(.setClockRealtime)
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    for _ in 0..<3 {
      host.getClock()
      guard case .getClock(var record) = host.events.last?.action else { break }
      record.realtime -= 1_000_000_000
      host.readRealtime()
      host.trySetClock(record)
      host.readRealtime()
      host.getClock()
      host.read(0)
    }
    try expectNotTested(Self.roundtrip, host.history)
  }

  @Test func aVCPUThatNeverReadsIsNotTested() throws {
    for (id, shifts) in [(Self.forward, Self.past), (Self.noBack, Self.future)] {
      var history = Self.settings(shifts + shifts)
      history.events.removeAll { $0.actor == .vcpu(1) }
      try expectNotTested(id, history, "did not see vcpu1")
    }
  }

  @Test func aPauseThatIsNotCountedIsBroken() throws {
    try expectBroken(
      Self.roundtrip, Self.roundtrips { $0.stepClock(by: -20_000_000) }, "vcpu0's reading less",
      "(20.0 ms) too low")
  }

  @Test func aRefusedRoundtripIsBroken() throws {
    let history = Self.roundtrips { host in
      let at = host.events.count - 1
      guard case .setClock(let record) = host.events[at].action else { return }
      host.events[at].action = .setClockRefused(record, error: "EINVAL")
    }
    try expectBroken(
      Self.roundtrip, history, "success for the structure that KVM_GET_CLOCK returned", "EINVAL")
  }
}
