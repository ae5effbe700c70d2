import PVClock
import Testing

@testable import ABIChecker

@Suite struct StableWhenMasterTests {
  static let rule = "STABLE-WHEN-MASTER"

  static func looks(
    source: SimulatedTime.Source = .tsc, _ change: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    for id in [0, 1] { host.look(id) }
    change(&host)
    host.getClock()
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func theFlagFollowsTheClocksource(source: SimulatedTime.Source) throws {
    try expectHolds(Self.rule, Self.looks(source: source).history)
  }

  @Test func aMissingFlagIsBroken() throws {
    try expectBroken(
      Self.rule, Self.looks { $0.amend { $0.flags = [] } }.history,
      "bit 0 set in vcpu1's record: the host's clocksource is tsc", "flags 0x0")
  }

  @Test func aGetClockWithoutTheFlagIsBroken() throws {
    let history = Self.looks { $0.host(.getClock(ClockRecord(clock: 9))) }.history
    try expectBroken(Self.rule, history, "KVM_CLOCK_TSC_STABLE set", "flags 0x0")
  }

  @Test func aFlagThatIsTooMuchIsBroken() throws {
    let history = Self.looks(source: .hpet) { host in
      host.amend { $0.flags = .tscStable }
      host.host(.getClock(ClockRecord(clock: 9, flags: 2)))
    }.history
    try expectBroken(
      Self.rule, history, "bit 0 clear in vcpu1's record: the host's clocksource is hpet",
      "flags 0x1", "KVM_CLOCK_TSC_STABLE clear", "flags 0x2")
  }

  @Test func anUnknownClocksourceIsNotTested() throws {
    var host = Self.looks()
    host.header.host.clocksource = nil
    try expectNotTested(Self.rule, host.history, "sysfs")
  }

  /// A second machine, before its vCPUs ran: KVM_GET_CLOCK has no flags yet.
  @Test func aNewMachineHasNoMasterClockYet() throws {
    var host = Self.looks()
    host.createMachine()
    host.getClock()
    host.createVCPU(0)
    host.getClock()
    host.createVCPU(1)
    host.register(0)
    host.look(0)
    host.amend { $0.flags = [] }
    try expectHolds(Self.rule, host.history)
  }

  @Test func theOldMSROnTheBootVCPUTakesItAway() throws {
    var host = Self.looks()
    host.register(0, msr: MSR.systemTimeOld)
    for id in [0, 1] { host.look(id) }
    host.getClock()
    host.register(0)
    host.look(1)
    host.getClock()
    try expectHolds(Self.rule, host.history)
  }
}

@Suite struct CPUID24Tests {
  static let rule = "STABLE-INDEP-CPUID24"

  static func machines(
    _ features: [Hex] = [0x0100_0009, 9], source: SimulatedTime.Source = .tsc,
    _ change: (inout HistoryBuilder, Hex) -> Void = { _, _ in }
  ) -> History {
    var host = HistoryBuilder(.cpuid24, source: source)
    for features in features {
      host.machine(0)
      host.host(.featuresSet(vcpu: 0, features: features))
      host.register(0)
      host.look(0)
      change(&host, features)
      host.getClock()
    }
    return host.history
  }

  @Test func theFlagIsThereEitherWay() throws {
    try expectHolds(Self.rule, Self.machines())
  }

  @Test func aHostThatHidesTheFlagFromAnUnbelieverIsBroken() throws {
    let history = Self.machines { host, features in
      if features == 9 { host.amend { $0.flags = [] } }
    }
    try expectBroken(Self.rule, history, "CPUID without bit 24", "flags 0x0")
  }

  @Test func oneMachineIsNotEnough() throws {
    try expectNotTested(Self.rule, Self.machines([9, 9, 1]), "did not see with bit 24")
    try expectNotTested(Self.rule, Self.machines([0x0100_0009, 0x0100_0001]))
  }

  @Test func withoutTheMasterClockItIsNotTested() throws {
    try expectNotTested(Self.rule, Self.machines(source: .hpet), "no master clock")
  }
}

extension StableWhenMasterTests {
  /// "Every record": vcpu1's was never read.
  @Test func aRecordThatNobodyReadIsNotTested() throws {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 1, 0] { host.run(id, .write(MSR.systemTime, UInt64(0x10001 + id * 0x1000))) }
    for _ in 0..<3 { host.look(0) }
    host.getClock()
    try expectNotTested(Self.rule, host.history, "records", "vcpu1")
  }

  @Test func withoutKVMGetClockItIsNotTested() throws {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    for _ in 0..<3 { for id in [0, 1] { host.look(id) } }
    try expectNotTested(Self.rule, host.history, "KVM_GET_CLOCK")
  }

  /// INIT took the record away while the boot vCPU was on the old MSR: it keeps bit 0 clear.
  @Test func aRecordThatWasGivenUpIsNoFault() throws {
    var host = Self.looks()
    host.register(0, msr: MSR.systemTimeOld)
    host.register(1)
    host.replug(1, how: .initialized(by: 0))
    host.register(0)
    host.enter(1)
    host.look(1, at: 0x11000)
    #expect(try !judge(Self.rule, host.history).isBroken)
  }

  @Test func aReadingWithoutTheFlagIsBroken() throws {
    var host = Self.looks()
    host.read(1)
    host.amend { $0.flags = [] }
    try expectBroken(Self.rule, host.history, "bit 0 set in vcpu1's record", "flags 0x0")
  }
}

extension CPUID24Tests {
  /// Nobody knows the CPUID of the first machine's guest.
  @Test func anUnknownCPUIDCountsForNeither() throws {
    var host = HistoryBuilder(.cpuid24)
    for features: Hex? in [nil, 9] {
      host.machine(0)
      if let features { host.host(.featuresSet(vcpu: 0, features: features)) }
      host.register(0)
      host.look(0)
      host.getClock()
    }
    try expectNotTested(Self.rule, host.history, "with bit 24")
  }

  /// Whichever scenario shows it.
  @Test func bit0WithoutATSCClocksourceIsBroken() throws {
    var history = Script.history(of: .guestStopped, source: .hpet)
    for at in history.events.indices {
      guard case .page(let vcpu, let address, var page) = history.events[at].action,
        page.flags.contains(.guestStopped)
      else { continue }
      page.flags.insert(.tscStable)
      history.events[at].action = .page(vcpu: vcpu, address: address, page: page)
    }
    try expectBroken("STABLE-WHEN-MASTER", history, "hpet")
  }
}
