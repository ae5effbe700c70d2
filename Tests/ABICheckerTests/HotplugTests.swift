import PVClock
import Testing

@testable import ABIChecker

@Suite struct HotplugTests {
  static let stable = "HOTPLUG-STABLE"
  static let keeps = "HOTPLUG-KEEPS-TIME"
  static let noResnap = "HOTPLUG-NO-RESNAP"

  /// vCPUs 1 and 2 come late; `fault` strikes just after each was made.
  static func history(
    source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.hotplug, source: source)
    host.bracket = bracket
    host.machine(0)
    host.register(0)
    host.setClock(3_600_000_000_000)
    for late in [1, 2] {
      host.settleAndLook()
      host.read(0)
      host.wait(milliseconds: 5)
      host.createVCPU(late)
      fault(&host)
      host.register(late)
      host.read(0)
      host.settleAndLook()
    }
    return host.history
  }

  @Test func theMasterClockStays() throws {
    try expectHolds(Self.stable, Self.history())
  }

  @Test func aMasterClockThatGoesIsBroken() throws {
    let history = Self.history { host in
      host.offsetsDiffer = true
      host.vcpus[host.vcpus.count - 1]?.wantsPair = true
    }
    try expectBroken(
      Self.stable, history, "bit 0 set in vcpu0's record: a vCPU was added",
      "bit 0 set in vcpu1's record", "KVM_CLOCK_TSC_STABLE set", "flags 0x0")
  }

  @Test func withoutAMasterClockItIsNotTested() throws {
    try expectNotTested(Self.stable, Self.history(source: .hpet), "KVM_GET_CLOCK did not show")
    try expectNotTested(Self.noResnap, Self.history(source: .hpet), "not in master-clock mode")
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func aLateVCPUFindsTheClock(source: SimulatedTime.Source) throws {
    try expectHolds(Self.keeps, Self.history(source: source))
  }

  @Test func aRestartIsBroken() throws {
    try expectBroken(
      Self.keeps, Self.history { $0.restartClock() }, "the advance of vcpu1's reading from 36000",
      "since vcpu0's reading",
      "too low")
  }

  @Test func aStepIsBroken() throws {
    try expectBroken(Self.keeps, Self.history { $0.stepClock(by: 40_000) }, "too high")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.keeps, Self.history(bracket: 30_000_000), "10.0 ms")
  }

  @Test func oneVCPUAloneShowsNothing() throws {
    var host = HistoryBuilder(.hotplug)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for _ in 0..<5 { host.settleAndLook() }
    for id in [Self.stable, Self.keeps, Self.noResnap] { try expectNotTested(id, host.history) }
  }

  @Test func thePairStays() throws {
    try expectHolds(Self.noResnap, Self.history())
  }

  @Test func aPairTakenAnewIsBrokenAndNotOwedBefore67() throws {
    var history = Self.history { host in
      host.vcpus[host.vcpus.count - 1]?.wantsPair = true
    }
    try expectBroken(
      Self.noResnap, history, "vcpu0's record to hold the pair from before vcpu1 was made",
      "vcpu1's record to hold the pair")
    let rule = try #require(Rule.named(Self.noResnap))
    #expect(rule.verdict(on: [Timeline(history)]).status == .broken)
    history.header.host.kernel = "6.1.192"
    let verdict = rule.verdict(on: [Timeline(history)])
    #expect(verdict.status == .notOwed && verdict.notOwed?.before.contains("c52ffadc65e2") == true)
  }

  /// Another vCPU's first entry takes the pair anew: it was made before the VM had a master clock.
  @Test func aVCPUThatWasThereBeforeIsNoFault() throws {
    var host = HistoryBuilder(.hotplug)
    host.machine(0, 1)
    host.register(0)
    host.enter(0)
    host.look(0)
    host.createVCPU(2)
    host.enter(1)
    host.register(2)
    host.settleAndLook()
    #expect(try !judge(Self.noResnap, host.history).isBroken)
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func noWalkOfAHostThatKeepsThePairIsBroken(source: SimulatedTime.Source) throws {
    var seeds = SeededGenerator()
    for _ in 0..<300 {
      let seed = seeds.next()
      let walk = HonestWalkTests.walk(seed: seed, source: source, mayResnapOnHotplug: false)
      let outcome = try judge(Self.noResnap, walk)
      #expect(!outcome.isBroken, "seed \(seed): \(outcome)")
    }
  }
}

extension HotplugTests {
  /// "In every record, and in the new one": the new one was not read.
  @Test func aNewRecordThatNobodyReadIsNotTested() throws {
    var host = HistoryBuilder(.hotplug)
    host.machine(0)
    host.register(0)
    host.settleAndLook()
    host.createVCPU(1)
    for id in [1, 0] { host.run(id, .write(MSR.systemTime, UInt64(0x10001 + id * 0x1000))) }
    for _ in 0..<8 { host.look(0) }
    host.getClock()
    try expectNotTested(Self.stable, host.history, "records", "vcpu1")
    try expectNotTested(Self.noResnap, host.history, "records", "vcpu1")
  }

  /// "Before and after it": nobody read after the new vCPU.
  @Test func readingsOnBothSidesAreNeeded() throws {
    var host = HistoryBuilder(.hotplug)
    for _ in 0..<4 {
      host.machine(0)
      host.register(0)
      host.createVCPU(1)
      host.register(1)
    }
    try expectNotTested(Self.keeps, host.history, "after it")
  }

  /// The late vCPU's TSC was moved before it entered: its TSC is not in step.
  @Test func aTSCOutOfStepIsNoFault() throws {
    let history = Self.history { host in
      let late = host.vcpus.count - 1
      host.setTSCOffset(late, 5)
      host.vcpus[late]?.wantsPair = true
    }
    for id in [Self.stable, Self.noResnap] { #expect(try !judge(id, history).isBroken, "\(id)") }
  }
}
