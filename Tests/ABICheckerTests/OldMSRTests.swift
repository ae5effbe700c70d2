import PVClock
import Testing

@testable import ABIChecker

@Suite struct OldMSRTests {
  static let clears = "STABLE-OLDMSR-VCPU0-CLEARS"
  static let noEffect = "STABLE-OLDMSR-VCPU1-NOEFFECT"
  static let restores = "STABLE-NEWMSR-RESTORES"
  static let keepsTime = "OLDMSR-KEEPS-TIME"

  /// Both vCPUs on the new MSR, KVM_GET_CLOCK; then `writes`, after each the vCPUs in `enter` and a look around.
  static func after(
    _ writes: [(id: Int, msr: UInt32)], source: SimulatedTime.Source = .tsc, asks: Bool = true,
    enter: [Int] = [0, 1], _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.oldMSR, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    if asks { host.getClock() }
    for (id, msr) in writes {
      host.register(id, msr: msr)
      for id in enter { host.enter(id) }
      fault(&host)
      for id in [0, 1] { host.look(id) }
      host.getClock()
    }
    return host.history
  }

  static let old = MSR.systemTimeOld
  static let new = MSR.systemTime

  /// A host that takes no notice of which MSR the boot vCPU wrote, or that always takes it for the old one.
  static func force(oldMSR: Bool) -> (inout HistoryBuilder) -> Void {
    { host in
      host.isBootVCPUOnOldMSR = oldMSR
      host.vcpus[0]?.wantsPair = true
      for id in [0, 1] { host.enter(id) }
    }
  }

  @Test func theBootVCPUsOldMSRClears() throws {
    try expectHolds(Self.clears, Self.after([(0, Self.old)]))
  }

  @Test func aMasterClockThatStaysIsBroken() throws {
    try expectBroken(
      Self.clears, Self.after([(0, Self.old)], Self.force(oldMSR: false)),
      "bit 0 clear in vcpu0's record", "bit 0 clear in vcpu1's record", "flags 0x1",
      "KVM_CLOCK_TSC_STABLE clear", "flags 0xe")
  }

  @Test func aFlagThatStaysOnOneVCPUIsBroken() throws {
    let history = Self.after([(0, Self.old)]) { $0.records[0x11000]?.flags = .tscStable }
    try expectBroken(Self.clears, history, "bit 0 clear in vcpu1's record", "flags 0x1")
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func anotherVCPUsOldMSRHasNoEffect(source: SimulatedTime.Source) throws {
    let history = Script.history(of: .oldMSRElsewhere, source: source)
    #expect(try judge(Self.noEffect, history).holds == (source != .hpet))
    try expectNotTested(Self.noEffect, Self.after([(1, Self.old)]), "alone")
    try expectNotTested(Self.clears, Self.after([(1, Self.old)]))
    try expectNotTested(Self.noEffect, Self.after([(0, Self.old)]))
  }

  @Test func anEffectOfAnotherVCPUsIsBroken() throws {
    try expectBroken(
      Self.noEffect, Self.after([(1, Self.old)], Self.force(oldMSR: true)),
      "bit 0 set in vcpu0's record", "bit 0 set in vcpu1's record", "flags 0x0",
      "KVM_CLOCK_TSC_STABLE set")
  }

  /// The vCPU with id 1 was made first and alone.
  @Test func whatCountsIsTheIdNotTheOrder() throws {
    var host = HistoryBuilder(.oldMSRElsewhere)
    Script.oldMSRElsewhere(&host)
    host.machine(1)
    host.getClock()
    host.register(1, msr: Self.old)
    for _ in 0..<2 { host.look(1) }
    host.getClock()
    try expectHolds(Self.noEffect, host.history)
    host.amend { $0.flags = [] }
    try expectBroken(Self.noEffect, host.history, "bit 0 set in vcpu1's record")
  }

  @Test func theNewMSRRestores() throws {
    try expectHolds(Self.restores, Self.after([(0, Self.old), (0, Self.new)]))
  }

  @Test func aMasterClockThatStaysAwayIsBroken() throws {
    try expectBroken(
      Self.restores, Self.after([(0, Self.old), (0, Self.new)], Self.force(oldMSR: true)),
      "bit 0 set in vcpu0's record", "flags 0x0", "KVM_CLOCK_TSC_STABLE set")
  }

  /// vCPU 1's record still has what it had: it changes at vCPU 1's next entry.
  @Test func aRecordThatWasNotUpdatedYetIsNoFault() throws {
    let writes = [(0, Self.old), (0, Self.new)]
    for id in [Self.clears, Self.restores] {
      #expect(try !judge(id, Self.after(writes, enter: [0])).isBroken, "\(id)")
    }
  }

  @Test func withoutAMasterClockToBeginWithNothingIsShown() throws {
    let writes = [(0, Self.old), (0, Self.new), (1, Self.old)]
    for id in [Self.clears, Self.noEffect, Self.restores] {
      try expectNotTested(id, Self.after(writes, source: .hpet), "KVM_GET_CLOCK")
    }
    try expectNotTested(Self.clears, Self.after([(0, Self.old)], asks: false), "before the write")
  }

  /// The boot vCPU's old MSR has taken the master clock away; what vCPU 1 does then shows nothing.
  @Test func oneOldMSRHidesTheOther() throws {
    #expect(try !judge(Self.noEffect, Self.after([(0, Self.old), (1, Self.old)])).isBroken)
  }

  /// Readings on both sides of changes between the MSRs.
  static func changes(
    _ msrs: [UInt32] = [old, new, old, new], source: SimulatedTime.Source = .tsc,
    bracket: UInt64 = 3_000, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.oldMSR, source: source)
    host.machine(0)
    host.bracket = bracket
    host.register(0)
    for msr in msrs {
      host.read(0)
      host.wait(milliseconds: 20)
      fault(&host)
      host.register(0, msr: msr)
    }
    return host.history
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func changesKeepTheTime(source: SimulatedTime.Source) throws {
    try expectHolds(Self.keepsTime, Self.changes(source: source))
  }

  @Test func aRestartAtAChangeIsBroken() throws {
    try expectBroken(
      Self.keepsTime, Self.changes { $0.restartClock() }, "[20", "which MSR is written")
  }

  @Test func aStepAtAChangeIsBroken() throws {
    try expectBroken(
      Self.keepsTime, Self.changes { $0.stepClock(by: 50_000) }, "[20", "2005", "too ")
  }

  @Test func rewritesOfOneMSRAreNoChanges() throws {
    try expectNotTested(Self.keepsTime, Self.changes([Self.new, Self.new]))
    try expectNotTested(Self.keepsTime, Self.changes([Self.old, Self.old]), "0x4b564d01")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.keepsTime, Self.changes(bracket: 30_000_000), "10.0 ms")
  }
}

extension OldMSRTests {
  /// "Every record": vcpu1's was not read after the write.
  @Test(arguments: [clears, restores])
  func aRecordThatNobodyReadIsNotTested(id: String) throws {
    var host = HistoryBuilder(.oldMSR)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.getClock()
    for msr in [Self.old, Self.new] {
      host.register(0, msr: msr)
      for _ in 0..<3 { host.look(0) }
      host.getClock()
    }
    try expectNotTested(id, host.history, "records", "vcpu1")
  }

  /// "Even if it was created alone": there was no such machine, or no other.
  @Test func oneOfTwoMachinesIsNotEnough() throws {
    var alone = HistoryBuilder(.oldMSRElsewhere)
    alone.machine(1)
    alone.register(1, msr: Self.old)
    for _ in 0..<3 { alone.look(1) }
    alone.getClock()
    try expectNotTested(Self.noEffect, alone.history, "beside others")
    try expectNotTested(Self.noEffect, Self.after([(1, Self.old), (1, Self.old)]), "alone")
  }

  /// Changes in one direction only.
  @Test func changesBackAreNeeded() throws {
    var host = HistoryBuilder(.oldMSR)
    for _ in 0..<3 {
      host.machine(0)
      host.register(0)
      host.read(0)
      host.register(0, msr: Self.old)
    }
    try expectNotTested(Self.keepsTime, host.history, "0x4b564d01")
  }
}
