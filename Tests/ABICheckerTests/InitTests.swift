import PVClock
import Testing

@testable import ABIChecker

@Suite struct InitTests {
  /// Both vCPUs get INIT; `fault` acts before each registers again.
  static func reset(
    _ targets: [Int] = [0, 1], reading value: Hex = 0, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.initReset)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.bracket = bracket
    for id in targets {
      host.read(id)
      host.wait(milliseconds: 40)
      host.initReset(id, from: 1 - id, reading: value)
      fault(&host)
      host.register(id)
    }
    return host
  }

  static let clears = "INIT-CLEARS-SYSTIME"

  @Test func theMSRIs0AfterINIT() throws {
    try expectHolds(Self.clears, Self.reset().history)
  }

  @Test func anMSRThatKeepsItsValueIsBroken() throws {
    try expectBroken(
      Self.clears, Self.reset(reading: 0x10001).history, "0 in vcpu0's system-time MSR",
      "0x10001 read by the host through 0x4b564d01", "by the guest through 0x12")
  }

  @Test func anMSRThatWas0BeforeShowsNothing() throws {
    var host = HistoryBuilder(.initReset)
    host.machine(0, 1)
    host.initReset(0, from: 1)
    try expectNotTested(Self.clears, host.history, "reads of the MSR", "0x12 by the guest")
  }

  @Test func aValueWrittenSinceIsNoneOfINITs() throws {
    var host = Self.reset()
    host.run(0, .readMSR(MSR.systemTime))
    host.hostWriteMSR(1, MSR.systemTime, 5)
    host.hostReadMSR(1, MSR.systemTime)
    try expectHolds(Self.clears, host.history)
  }

  /// A reset by the host is another thing: it clears the MSR itself.
  @Test func onlyINITCounts() throws {
    var host = HistoryBuilder(.initReset)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for id in [0, 1] {
      host.read(id)
      host.replug(id, how: .userSpace)
      host.hostReadMSR(id, MSR.systemTime)
      host.register(id)
    }
    for id in [Self.clears, Self.freezes, Self.reregister] { try expectNotTested(id, host.history) }
  }

  static let freezes = "INIT-FREEZES-PAGE"

  /// vCPU 0 gets INIT, the clock is set and the vCPUs in `enter` enter.
  static func frozen(
    enter: [Int] = [0, 1], _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.initReset)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.initReset(0, from: 1)
    host.look(0, at: 0x10000)
    host.look(1)
    host.setClock(3_600_000_000_000)
    for id in enter { host.enter(id) }
    fault(&host)
    host.look(0, at: 0x10000)
    host.look(1)
    return host.history
  }

  @Test func theRecordIsTheGuestsAgain() throws {
    try expectHolds(Self.freezes, Self.frozen())
  }

  @Test func anUpdateAfterINITIsBroken() throws {
    let history = Self.frozen { host in
      host.records[0x10000]?.version += 2
      host.records[0x10000]?.systemTime = 3_600_000_000_000
    }
    try expectBroken(
      Self.freezes, history, "0x10000", "version 2", "version 4", "system_time 3600000000000")
  }

  @Test func withoutAnEntryOrAnUpdateNothingIsShown() throws {
    try expectNotTested(Self.freezes, Self.frozen(enter: [1]), "vcpu0")
    try expectNotTested(Self.freezes, Self.frozen(enter: [0]), "no live record")
  }

  static let reregister = "INIT-REREGISTER-KEEPS-TIME"

  @Test func theClockIsWhereItWouldHaveBeen() throws {
    try expectHolds(Self.reregister, Self.reset().history)
  }

  @Test func aRestartIsBroken() throws {
    let history = Self.reset { $0.restartClock() }.history
    try expectBroken(
      Self.reregister, history, "the advance of vcpu0's reading from", "vcpu1's reading", "[40",
      "too low")
  }

  @Test func oneVCPUIsNotEnough() throws {
    try expectNotTested(Self.reregister, Self.reset([0]).history, "did not see vcpu1")
    try expectNotTested(Self.reregister, Self.reset([0, 0]).history, "did not see vcpu1")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.reregister, Self.reset(bracket: 50_000_000).history, "10.0 ms")
  }
}

extension InitTests {
  @Test func everyVCPUHasToBeReset() throws {
    try expectNotTested(Self.clears, Self.reset([0, 0]).history, "vcpu1")
  }

  /// Another vCPU registered the memory since: it is written again, and rightly.
  @Test func aRecordThatAnotherVCPUTookIsNoFault() throws {
    var host = HistoryBuilder(.initReset)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.initReset(0, from: 1)
    host.register(1, at: 0x10008)
    host.look(0, at: 0x10000)
    host.look(1)
    host.setClock(3_600_000_000_000)
    for id in [0, 1] { host.enter(id) }
    host.records[0x10000]?.systemTime = 7
    host.look(0, at: 0x10000)
    host.look(1)
    #expect(try !judge(Self.freezes, host.history).isBroken)
  }
}
