import PVClock
import Testing

@testable import ABIChecker

@Suite struct ReplugTests {
  static let rule = "REPLUG-VCPU0-KEEPS-TIME"

  static func replugged(
    _ id: Int = 0, times: Int = 2, source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.replug, source: source)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.wait(milliseconds: 40)
    host.bracket = bracket
    host.read(id)
    // Once by INIT and once by user space, or only by the latter.
    for how in [Reset.initialized(by: 1), .userSpace].suffix(times) {
      host.replug(id, how: how)
      host.wait(milliseconds: 5)
      fault(&host)
      host.register(id)
    }
    return host.history
  }

  /// Once by INIT and once by the host, unless the host cannot do the first.
  @Test func oneOfTwoReplugsIsNotEnough() throws {
    try expectNotTested(Self.rule, Self.replugged(times: 1), "by INIT")
    var history = Self.replugged(times: 1)
    var lacking = history.events[0]
    lacking.number = history.events.count + 1
    lacking.action = .lacking(what: "INIT", evidence: "no irqchip")
    history.events.append(lacking)
    try expectHolds(Self.rule, history)
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func theClockIsWhereItWouldHaveBeen(source: SimulatedTime.Source) throws {
    try expectHolds(Self.rule, Self.replugged(source: source))
  }

  @Test func aRestartIsBroken() throws {
    try expectBroken(
      Self.rule, Self.replugged { $0.restartClock() }, "the advance of vcpu0's reading from 40",
      "[5",
      "not to vCPU 0", "(45.0 ms) too low")
  }

  @Test func aClockThatStoodStillMeanwhileIsBroken() throws {
    try expectBroken(
      Self.rule, Self.replugged { $0.stepClock(by: -5_000_000) }, "[5", "(5.0 ms) too low")
  }

  @Test func anotherVCPUsReplugIsNotTested() throws {
    try expectNotTested(Self.rule, Self.replugged(1))
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.rule, Self.replugged(bracket: 50_000_000), "10.0 ms")
  }
}

@Suite struct SchedOffTests {
  static let rule = "SCHEDOFF-NO-UNDERFLOW"

  /// Two machines in which vCPU 1 comes after vCPU 0; `change` is done to its first reading.
  static func later(
    msr: UInt32 = MSR.systemTime, noise: SimulatedTime.Noise = .none,
    _ change: (inout ClockPage) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.scheduleOffset)
    for _ in 0..<2 {
      host.machine(0, 1)
      host.time.noise = noise
      host.register(0, msr: msr)
      host.time.noise = .none
      host.register(1)
      host.amend(0, change)
    }
    return host
  }

  @Test func aLaterVCPUIsLater() throws {
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      try expectHolds(Self.rule, Self.later(msr: msr).history)
    }
  }

  @Test func aClockThatStartsAgainOnVCPU1IsBroken() throws {
    let history = Self.later { $0.systemTime = 0 }.history
    try expectBroken(
      Self.rule, history, "vcpu1's reading less vcpu0's first one", "one clock", "-2")
  }

  @Test func aClockAheadOnVCPU1IsBroken() throws {
    let history = Self.later { $0.systemTime += 50_000_000 }.history
    try expectBroken(Self.rule, history, "[495 ns", "50.0 ms")
  }

  /// vCPU 0's record was made in an entry that lost the core: it runs ahead, and vCPU 1 is not to blame.
  @Test func withoutTheMasterClockVCPU0MayRunAhead() throws {
    let history = Self.later(msr: MSR.systemTimeOld, noise: .always(300_000)).history
    try expectHolds(Self.rule, history)
    let below = Self.later(msr: MSR.systemTimeOld) { $0.systemTime &-= 40_000 }.history
    try expectBroken(Self.rule, below, "may run ahead")
  }

  @Test func readingsBeforeVCPU0sAndOneVCPUAloneAreNotEnough() throws {
    var host = HistoryBuilder(.scheduleOffset)
    host.machine(0, 1)
    host.register(1)
    try expectNotTested(Self.rule, host.history, "saw 0")
    host.register(0)
    for _ in 0..<4 { host.read(1) }
    try expectNotTested(Self.rule, host.history, "saw 1", "needs at least 2")
  }

  @Test func aSettingBetweenIsNotComparedAcross() throws {
    var host = HistoryBuilder(.scheduleOffset)
    host.machine(0, 1)
    for _ in 0..<3 {
      host.register(0)
      host.setClock(5)
      host.register(1)
    }
    #expect(try !judge(Self.rule, host.history).isBroken)
  }
}

@Suite struct ModeTests {
  static let rule = "MODE-INDEPENDENT"

  static func modes(
    _ modes: [CPUMode] = CPUMode.allCases, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder, CPUMode) -> Void = { _, _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.modes)
    host.machine(0)
    host.bracket = bracket
    for mode in modes {
      host.host(.booted(vcpu: 0, guest: "agent", mode: mode))
      host.register(0)
      fault(&host, mode)
      if mode == .long { host.read(0, ring: 3) }
    }
    return host
  }

  @Test func oneClockGoesThroughAllModes() throws {
    try expectHolds(Self.rule, Self.modes().history)
  }

  @Test(arguments: CPUMode.allCases)
  func anInvalidRecordInOneModeIsBroken(mode: CPUMode) throws {
    let history = Self.modes { host, now in
      if now == mode { host.amend { $0.tscToSystemMultiplier = 5 } }
    }.history
    try expectBroken(Self.rule, history, "\(mode) mode, ring 0", "tsc_to_system_mul 0x5")
  }

  @Test func aStepBetweenModesIsBroken() throws {
    let history = Self.modes { host, _ in host.stepClock(by: 1_000_000) }.history
    try expectBroken(Self.rule, history, "real ring 0 and protected ring 0", "(1.0 ms)", "too ")
  }

  @Test func aFaultInOneModeIsBroken() throws {
    var host = Self.modes()
    let fault = Fault(vector: 13, errorCode: 0, address: 0x7c00)
    host.bracketed(.vcpu(0)) { _ in [.wroteMSR(msr: 0x4b56_4d01, value: 0x10001, fault: fault)] }
    try expectBroken(Self.rule, host.history, "long mode", "vector 13", "0x4b564d01, 0x10001")
  }

  @Test func aModeThatIsMissingIsNotTested() throws {
    try expectNotTested(Self.rule, Self.modes([.real, .long]).history, "real ring 0")
    var host = Self.modes([.long])
    host.host(.lacking(what: "real mode", evidence: "KVM_EXIT_INTERNAL_ERROR at 0xf0000"))
    try expectNotTested(Self.rule, host.history, "KVM_EXIT_INTERNAL_ERROR at 0xf0000")
  }

  /// Valid records in every mode, but nothing on one line: the clock might be another in each.
  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(
      Self.rule, Self.modes(CPUMode.allCases + CPUMode.allCases, bracket: 60_000_000).history,
      "10.0 ms")
  }
}

extension ReplugTests {
  /// By INIT and by user space: two of one kind are not both.
  @Test func twoOfOneKindAreNotEnough() throws {
    for (how, missing) in [(Reset.initialized(by: 1), "user space"), (.userSpace, "INIT")] {
      var host = HistoryBuilder(.replug)
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      for _ in 0..<3 {
        host.replug(0, how: how)
        host.register(0)
      }
      try expectNotTested(Self.rule, host.history, missing)
    }
  }
}

extension SchedOffTests {
  /// The first reading on vCPU 1 is right, the next one is below vCPU 0's first.
  @Test(arguments: [0, 1])
  func aLaterReadingBelowZeroIsBroken(id: Int) throws {
    var host = Self.later()
    host.read(id)
    host.amend { $0.systemTime &-= 1_000_000 }
    try expectBroken(Self.rule, host.history, "vcpu\(id)'s reading", "too low")
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func manyLaterReadingsHold(source: SimulatedTime.Source) throws {
    var host = HistoryBuilder(.scheduleOffset, source: source)
    Script.scheduleOffset(&host)
    for round in 0..<20 {
      host.wait(milliseconds: UInt64(round * 50))
      for id in [1, 0] { host.read(id) }
    }
    try expectHolds(Self.rule, host.history)
  }
}

extension ModeTests {
  /// The clock was set before each change of the mode: nothing shows one clock through all of them.
  @Test func readingsWithinOneModeAreNotEnough() throws {
    var host = HistoryBuilder(.modes)
    host.machine(0)
    for (round, mode) in CPUMode.allCases.enumerated() {
      host.setClock(UInt64(round) << 40)
      host.host(.booted(vcpu: 0, guest: "agent", mode: mode))
      for _ in 0..<3 { host.register(0) }
    }
    host.setClock(1 << 50)
    host.read(0, ring: 3)
    try expectNotTested(Self.rule, host.history, "in another mode")
  }

  // MARK: VM-NOT-KILLED

  /// It is broken wherever it happens, although the scenario ends with it.
  @Test(arguments: [ScenarioName.registration, .slots])
  func aVMThatKVMKillsIsBroken(scenario: ScenarioName) throws {
    var history = Script.history(of: scenario)
    let last = try #require(history.events.last)
    for action in [Action.killed(request: "KVM_RUN"), .failed(reason: "KVM_RUN failed")] {
      history.events.append(
        Event(
          number: history.events.count + 1, actor: .host, began: last.ended, ended: last.ended,
          action: action))
    }
    try expectBroken("VM-NOT-KILLED", history, "a VM that goes on", "EIO from KVM_RUN")
  }
}
