import PVClock
import Testing

@testable import ABIChecker

@Suite struct OldMSRDetailsTests {
  static let host = "STABLE-OLDMSR-HOST-NOEFFECT"
  static let stamp = "OLDMSR-REFRESH-TIMESTAMP"

  /// A machine in master-clock mode, or not, whose host then writes the old MSR on vCPU 0 and does `then`.
  static func written(
    source: SimulatedTime.Source = .tsc, _ then: (inout HistoryBuilder) -> Void
  ) -> History {
    var host = HistoryBuilder(.hostRegisters, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    host.getClock()
    host.hostWriteMSR(0, MSR.systemTimeOld, host.vcpus[0]!.msr)
    then(&host)
    return host.history
  }

  static func lookAround(_ host: inout HistoryBuilder) {
    for id in [0, 1] { host.enter(id) }
    for id in [0, 1] { host.look(id) }
    host.getClock()
  }

  @Test func theHostsWriteTakesNothingAway() throws {
    try expectHolds(Self.host, Self.written(Self.lookAround))
  }

  @Test func aHostWhoseWriteCountsAsTheGuestsIsBroken() throws {
    let history = Self.written { host in
      host.isBootVCPUOnOldMSR = true
      host.vcpus[0]?.wantsPair = true
      Self.lookAround(&host)
    }
    try expectBroken(
      Self.host, history, "bit 0 set in vcpu0's record", "vcpu1's record", "flags 0x0",
      "KVM_CLOCK_TSC_STABLE set")
  }

  @Test func whatIsSeenBeforeTheEntryProvesNothing() throws {
    let history = Self.written { host in
      for _ in 0..<3 { host.getClock() }
      host.enter(1)
      for _ in 0..<3 { host.look(1) }
    }
    try expectNotTested(Self.host, history)
  }

  @Test func withoutAMasterClockThereIsNothingToTakeAway() throws {
    try expectNotTested(
      Self.host, Self.written(source: .hpet, Self.lookAround),
      "did not show a master clock before the write")
    var host = HistoryBuilder(.hostRegisters)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id, msr: MSR.systemTimeOld) }
    host.getClock()
    host.hostWriteMSR(0, MSR.systemTimeOld, host.vcpus[0]!.msr)
    Self.lookAround(&host)
    try expectNotTested(Self.host, host.history, "did not show a master clock before the write")
  }

  @Test func theGuestsOwnWriteAccusesNobody() throws {
    let history = Self.written { host in
      Self.lookAround(&host)
      host.register(0, msr: MSR.systemTimeOld)
      Self.lookAround(&host)
    }
    try expectHolds(Self.host, history)
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func aFreshTimestampHolds(source: SimulatedTime.Source) throws {
    try expectHolds(Self.stamp, Script.history(of: .oldMSRTimestamp, source: source))
  }

  /// The record of the master clock stays: what SLES 10 can't live with.
  @Test func aTimestampOfTheMasterClockIsBroken() throws {
    var host = HistoryBuilder(.oldMSRTimestamp)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for id in [0, 1] {
      host.read(id)
      host.register(id, msr: MSR.systemTimeOld)
      for _ in 0..<4 {
        host.wait(milliseconds: 2)
        host.read(id)
        let old = host.records[host.vcpus[id]!.address]!
        host.register(id, msr: MSR.systemTimeOld)
        host.amend { ($0.tscTimestamp, $0.systemTime) = (old.tscTimestamp, old.systemTime) }
      }
    }
    try expectBroken(
      Self.stamp, host.history, "between vcpu0's own TSC before its write of 0x12 and after it",
      "cycles before the first")
  }

  @Test func aTimestampInTheFutureIsBroken() throws {
    var host = HistoryBuilder(.oldMSRTimestamp)
    Script.oldMSRTimestamp(&host)
    host.amend { $0.tscTimestamp &+= 100_000_000 }
    try expectBroken(Self.stamp, host.history, "cycles after the second")
  }

  @Test func theNewMSROwesNothing() throws {
    var host = HistoryBuilder(.oldMSRTimestamp)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for _ in 0..<8 {
      for id in [0, 1] {
        host.read(id)
        host.register(id, msr: id == 0 ? MSR.systemTime : MSR.systemTimeOld)
      }
    }
    try expectNotTested(Self.stamp, host.history, "did not see vcpu0")
  }
}

extension OldMSRDetailsTests {
  /// vCPU 0's entry serves the host's write; vCPU 1's record is from before it.
  @Test func aRecordFromBeforeVCPU0EnteredProvesNothing() throws {
    let history = Self.written { host in
      for id in [1, 0] { host.enter(id) }
      for _ in 0..<3 { host.look(1) }
    }
    try expectNotTested(Self.host, history)
  }

  @Test func aRecordThatNobodyReadIsNotTested() throws {
    let history = Self.written { host in
      for id in [0, 1] { host.enter(id) }
      for _ in 0..<3 { host.look(0) }
      host.getClock()
    }
    try expectNotTested(Self.host, history, "records", "vcpu1")
  }

  /// The reading before the write was made by the TSC as it was before the host moved it.
  @Test func aTSCThatTheHostMovesIsNoFault() throws {
    var host = HistoryBuilder(.oldMSRTimestamp)
    Script.oldMSRTimestamp(&host)
    host.read(0)
    host.setTSCOffset(0, Script.origin &- 1 << 40)
    host.register(0, msr: MSR.systemTimeOld)
    try expectHolds(Self.stamp, host.history)
  }

  /// "On any vCPU": the third one did not write.
  @Test func everyVCPUHasToWrite() throws {
    var host = HistoryBuilder(.oldMSRTimestamp)
    host.machine(0, 1, 2)
    for id in [0, 1, 0, 1, 0, 1, 0, 1, 0, 1] { host.register(id, msr: MSR.systemTimeOld) }
    try expectNotTested(Self.stamp, host.history, "vcpu2")
  }
}
