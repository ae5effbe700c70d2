import PVClock
import Testing

@testable import ABIChecker

@Suite struct HostChangesTests {
  static func history(
    _ scenario: ScenarioName, _ change: (inout [Event]) -> Void = { _ in }
  ) -> History {
    var history = Script.history(of: scenario)
    change(&history.events)
    return history
  }

  /// The history with `change` made to every record that the host saw after the last host change of a kind.
  static func flags(
    _ scenario: ScenarioName, after value: String, _ change: (inout ClockPage) -> Void
  ) -> History {
    history(scenario) { events in
      guard
        let start = events.lastIndex(where: {
          if case .hostChanged(_, value, _) = $0.action { true } else { false }
        })
      else { return }
      for at in events.indices where at > start {
        if case .hostChanged = events[at].action { break }
        guard case .page(let vcpu, let address, var page) = events[at].action else { continue }
        change(&page)
        events[at].action = .page(vcpu: vcpu, address: address, page: page)
      }
    }
  }

  @Test func aFlagThatStaysAfterTheSwitchIsBroken() throws {
    try expectBroken(
      "STABLE-LOST-CLOCKSOURCE",
      Self.flags(.clocksourceSwitch, after: "hpet") { $0.flags = .tscStable },
      "bit 0 clear in vcpu1's record", "flags 0x1")
  }

  @Test func aFlagThatDoesNotComeBackIsBroken() throws {
    try expectBroken(
      "STABLE-BACK-ON-TSC", Self.flags(.clocksourceSwitch, after: "tsc") { $0.flags = [] },
      "bit 0 set in vcpu1's record", "flags 0x0")
  }

  @Test(arguments: [-20_000_000, -1_000_000_000_000] as [Int64])
  func aClockThatLosesTimeInTheSwitchIsBroken(step: Int64) throws {
    var host = HistoryBuilder(.clocksourceSwitch)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for id in [0, 1] { host.read(id) }
    host.switchClocksource(to: .hpet)
    host.stepClock(by: step)
    for id in [0, 1] { host.read(id) }
    try expectBroken(
      "CLOCKSOURCE-SWITCH-KEEPS-TIME", host.history, "the advance of vcpu1's reading from")
  }

  @Test func aStepBackInTheLoopIsBroken() throws {
    let history = Self.history(.clocksourceSwitch) { events in
      for at in events.indices {
        guard case .looped(let guest, var result) = events[at].action else { continue }
        result.first.page.flags = .tscStable
        (result.backwards, result.worst) = (1, -4711)
        events[at].action = .looped(guest: guest, result: result)
      }
    }
    try expectBroken("CLOCKSOURCE-SWITCH-KEEPS-TIME", history, "no step back", "4711 ns")
  }

  @Test func aSettingThatIsLateIsBroken() throws {
    var host = HistoryBuilder(.clocksourceSwitch)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.switchClocksource(to: .hpet)
    host.wait(milliseconds: 100)
    host.setClock(1 << 40)
    host.stepClock(by: -20_000_000)
    for id in [0, 1] { host.read(id) }
    try expectBroken("SETCLOCK-NONTSC", host.history, "less the value set (1099511627776 ns)")
  }

  /// The sentence says "every vCPU".
  @Test func aSettingThatOneVCPUReadsIsNotTested() throws {
    var host = HistoryBuilder(.clocksourceSwitch)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.switchClocksource(to: .hpet)
    host.wait(milliseconds: 100)
    for value in [1 << 40, 5] as [UInt64] {
      host.setClock(value)
      host.read(0)
    }
    try expectNotTested("SETCLOCK-NONTSC", host.history, "did not see vcpu1")
  }

  /// What was read before the setting says nothing of the time after it.
  @Test func aRecordFromBeforeTheSettingIsNotJudged() throws {
    var host = HistoryBuilder(.clocksourceSwitch)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for source in [SimulatedTime.Source.hpet, .tsc] {
      host.switchClocksource(to: source)
      host.settleAndLook()
    }
    host.setClock(5)
    host.getClock()
    #expect(try !judge("STABLE-BACK-ON-TSC", host.history).isBroken)
  }

  @Test func aSwitchThatNoLoopReadsAcrossIsNotTested() throws {
    var history = Script.history(of: .clocksourceSwitch)
    history.events.removeAll { if case .looped = $0.action { true } else { false } }
    try expectNotTested("CLOCKSOURCE-SWITCH-KEEPS-TIME", history, "loops in which bit 0 went")
  }

  /// The master clock counts the TSC: NTP could reach only a clock without it.
  @Test func waitsWithTheMasterClockAloneAreNotEnough() throws {
    var host = HistoryBuilder(.slew)
    host.machine(0)
    host.register(0)
    for _ in 0..<7 {
      host.readMonotonic(fast: 500)
      host.read(0)
      host.wait(milliseconds: 300)
      host.read(0)
      host.readMonotonic(fast: 500)
    }
    try expectNotTested("RATE-NOT-NTP", host.history, "without the master clock")
  }

  /// The loop that goes on while the clocksource is switched began on the one before.
  @Test func aLoopAcrossTheSwitchMakesNoRateUnknown() throws {
    let history = Self.history(.clocksourceSwitch) { events in
      for at in events.indices {
        guard case .looped = events[at].action else { continue }
        events[at].began = events[at - 2].ended
      }
    }
    #expect(Timeline(history).rateBound < 1_000_000)
    try expectHolds("CLOCKSOURCE-SWITCH-KEEPS-TIME", history)
  }

  /// CLOCK_MONOTONIC_RAW stands still in a switch while a record counts the TSC.
  @Test func aSwitchMayCostTheTimeThatItTakes() throws {
    var host = HistoryBuilder(.clocksourceSwitch)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.read(0)
    host.switchClocksource(to: .hpet, taking: 2_000_000)
    host.read(0)
    host.wait(milliseconds: 100)
    host.read(0)
    let timeline = Timeline(host.history)
    let drifts = timeline.observations.suffix(3).map { timeline.drift(until: $0) }
    #expect((2_000_000...2_010_000).contains(drifts[1] - drifts[0]))
    #expect((0...10_000).contains(drifts[2] - drifts[1]))
  }

  /// 500 ppm of 300 ms.
  @Test func aClockThatIsSlewedIsBroken() throws {
    var host = HistoryBuilder(.slew)
    host.machine(0)
    host.register(0)
    host.readMonotonic(fast: 500)
    host.read(0)
    host.wait(milliseconds: 300)
    host.stepClock(by: 150_000)
    host.register(0)
    host.readMonotonic(fast: 500)
    try expectBroken("RATE-NOT-NTP", host.history, "the clock's advance", "too high")
  }

  @Test(arguments: [false, true])
  func aWaitWithWideReadingsSaysNothing(ofTheHostsClockToo: Bool) throws {
    var host = HistoryBuilder(.slew)
    host.machine(0)
    host.register(0)
    for _ in 0..<3 {
      host.time.noise = ofTheHostsClockToo ? .always(150_000) : .none
      host.readMonotonic(fast: 500)
      host.time.noise = .always(150_000)
      host.read(0)
      host.wait(milliseconds: 300)
      host.read(0)
      host.time.noise = ofTheHostsClockToo ? .always(150_000) : .none
      host.readMonotonic(fast: 500)
    }
    try expectInconclusive(
      "RATE-NOT-NTP", host.history,
      ofTheHostsClockToo ? "do not show the slew" : "the clock's advance")
  }

  @Test func aSlewThatTookNoEffectTestsNothing() throws {
    var host = HistoryBuilder(.slew)
    host.machine(0)
    host.register(0)
    for _ in 0..<4 {
      host.readMonotonic(fast: 100)
      host.read(0)
      host.wait(milliseconds: 300)
      host.read(0)
      host.readMonotonic(fast: 100)
    }
    try expectNotTested("RATE-NOT-NTP", host.history, "did not run 400 ppm faster")
  }

  @Test func aClockThatDoesNotCountTheSleepIsBroken() throws {
    var host = HistoryBuilder(.suspend)
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    host.read(1)
    host.readHostClock("CLOCK_BOOTTIME")
    host.suspend(seconds: 10)
    host.stepClock(by: -10_000_000_000)
    host.readHostClock("CLOCK_BOOTTIME")
    host.read(1)
    try expectBroken("RATE-BOOTTIME", host.history, "over the suspend", "too low")
  }

  @Test func aHostThatDidNotSleepTestsNothing() throws {
    var host = HistoryBuilder(.suspend)
    host.machine(0)
    host.register(0)
    host.readHostClock("CLOCK_BOOTTIME")
    host.suspend(seconds: 0)
    host.readHostClock("CLOCK_BOOTTIME")
    host.read(0)
    try expectNotTested("RATE-BOOTTIME", host.history, "did not sleep")
  }

  @Test func aRefusedSuspendIsBroken() throws {
    var host = HistoryBuilder(.suspend)
    host.machine(0)
    host.suspend(seconds: 0, error: "EINVAL")
    try expectBroken("SUSPEND-NOT-REFUSED", host.history, "EINVAL")
  }

  @Test func aRecordWithoutTheBitIsBroken() throws {
    try expectBroken(
      "SUSPEND-STOPPED-FLAG",
      Self.history(.suspend) { events in
        for at in events.indices {
          guard case .page(let vcpu, let address, var page) = events[at].action else { continue }
          page.flags.remove(.guestStopped)
          events[at].action = .page(vcpu: vcpu, address: address, page: page)
        }
      }, "bit 1 set in vcpu1's record")
  }

  /// The sentence says "every active record".
  @Test func aRecordThatNobodyReadIsNotTested() throws {
    var host = HistoryBuilder(.suspend)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.suspend(seconds: 0)
    for id in [0, 1] { host.enter(id) }
    host.look(1)
    try expectNotTested("SUSPEND-STOPPED-FLAG", host.history, "each of them read")
  }

  /// KVM sets the bit when the vCPU enters.
  @Test func aLookBeforeTheEntryIsNotJudged() throws {
    var host = HistoryBuilder(.suspend)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.suspend(seconds: 0)
    for id in [0, 1] {
      host.look(id)
      host.amend { $0.flags.remove(.guestStopped) }
    }
    for id in [0, 1] { host.enter(id) }
    for id in [0, 1] { host.look(id) }
    try expectHolds("SUSPEND-STOPPED-FLAG", host.history)
  }

  /// KVM_KVMCLOCK_CTRL after the suspend sets the bit, too.
  @Test func aBitThatTheHostAskedForIsNoFault() throws {
    var host = HistoryBuilder(.suspend)
    host.machine(0, 1)
    for id in [0, 1] { host.enter(id) }
    host.suspend(seconds: 0)
    for id in [0, 1] { host.register(id) }
    host.look(0)
    host.tellStopped(1)
    host.enter(1)
    host.look(1)
    try expectHolds("SUSPEND-INACTIVE-NOFLAG", host.history)
  }

  @Test func suspendsWithARecordOnlyAreNotEnough() throws {
    var host = HistoryBuilder(.suspend)
    host.machine(0)
    host.register(0)
    for _ in 0..<3 { host.suspend(seconds: 0) }
    try expectNotTested("SUSPEND-NOT-REFUSED", host.history, "without a record")
  }

  @Test func theBitInALaterRecordIsBroken() throws {
    try expectBroken(
      "SUSPEND-INACTIVE-NOFLAG",
      Self.history(.suspend) { events in
        for at in events.indices {
          guard case .page(let vcpu, let address, var page) = events[at].action else { continue }
          page.flags.insert(.guestStopped)
          events[at].action = .page(vcpu: vcpu, address: address, page: page)
        }
      }, "bit 1 clear in vcpu0's record")
  }

  /// Two vCPUs' versions differ anyway.
  @Test func aVersionIsComparedWithItsOwn() throws {
    var host = HistoryBuilder(.periodicSync)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.look(0)
    host.look(1)
    try expectNotTested("PERIODIC-SYNC", host.history)
  }

  /// Without the master clock a record is updated where its vCPU comes to another CPU.
  @Test func withoutTheMasterClockAnUpdateTellsNothing() throws {
    var host = HistoryBuilder(.periodicSync, source: .hpet)
    host.machine(0)
    host.register(0)
    host.look(0)
    host.wait(milliseconds: 10)
    host.enter(0)
    host.look(0)
    try expectNotTested("PERIODIC-SYNC", host.history, "master clock")
  }

  @Test(arguments: [(10_000, false), (330_000, true)] as [(UInt64, Bool)])
  func aVersionThatStandsStillIsBrokenInTheEnd(milliseconds: UInt64, isBroken: Bool) throws {
    var host = HistoryBuilder(.periodicSync)
    host.machine(0)
    host.register(0)
    host.look(0)
    host.wait(milliseconds: milliseconds)
    host.enter(0)
    host.look(0)
    if isBroken {
      try expectBroken("PERIODIC-SYNC", host.history, "another version than")
    } else {
      try expectNotTested("PERIODIC-SYNC", host.history, "were apart")
    }
  }

  // MARK: A step of CLOCK_REALTIME

  static let keeps = "REALTIME-STEP-KEEPS-TIME"
  static let follows = "REALTIME-STEP-FOLLOWED"

  private static func stepped(
    _ fault: @escaping (inout HistoryBuilder, Int) -> Void
  ) -> History {
    var host = HistoryBuilder(.realtimeStep)
    Script.realtimeStep(&host, fault: fault)
    return host.history
  }

  @Test(arguments: 0..<4) func aClockThatGoesWithTheStepIsBroken(number: Int) throws {
    let history = Self.stepped { host, at in
      if at == number { host.stepClock(by: 3_600_000_000_000) }
    }
    try expectBroken(Self.keeps, history, "only CLOCK_REALTIME was stepped", "(3600.0 s) too high")
  }

  @Test(arguments: 0..<4) func aWallClockOfBeforeTheStepIsBroken(number: Int) throws {
    let history = Self.stepped { host, at in
      host.wall.error = at == number ? 3_600_000_000_000 : 0
    }
    try expectBroken(
      Self.follows, history, "after the step, less kvmclock", "(3600.0 s) too high")
    try expectHolds(Self.keeps, history)
  }

  @Test func aRealtimeOfBeforeTheStepIsBroken() throws {
    var history = Self.stepped { _, _ in }
    for at in history.events.indices {
      guard case .getClock(var record) = history.events[at].action else { continue }
      record.realtime &+= 3_600_000_000_000
      history.events[at].action = .getClock(record)
    }
    try expectBroken(Self.follows, history, "realtime of KVM_GET_CLOCK", "(3600.0 s) too high")
  }

  @Test func aStepThatWasRefusedIsNotTested() throws {
    var history = Self.stepped { _, _ in }
    for at in history.events.indices {
      guard case .hostChanged(let what, let value, _) = history.events[at].action else { continue }
      history.events[at].action = .hostChanged(what: what, value: value, error: "EPERM")
    }
    for rule in [Self.keeps, Self.follows] { try expectNotTested(rule, history, "forward, back") }
  }
}
