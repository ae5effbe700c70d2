import PVClock
import Testing

@testable import ABIChecker

@Suite struct RestoreTests {
  static let inStep = "RESTORE-TSC-IN-STEP"
  static let master = "RESTORE-MASTER-CLOCK"
  static let apart = "RESTORE-TSC-APART"
  static let keeps = "RESTORE-APART-KEEPS-TIME"
  static let parked = "RESTORE-PARKED"

  static func history(_ change: (inout HistoryBuilder) -> Void) -> History {
    var host = HistoryBuilder(.restoreTSC)
    change(&host)
    return host.history
  }

  static func whole(_ change: (inout HistoryBuilder) -> Void) -> History {
    history { host in
      change(&host)
      Script.restoreTSC(&host)
    }
  }

  /// One restore, vcpu1's TSC `ahead` of what was saved.
  static func restored(
    ahead: Int64 = 0, _ fault: @escaping (inout HistoryBuilder, Int) -> Void = { _, _ in }
  ) -> History {
    history { host in
      let saved = host.saveRunningMachine()
      host.restore(saved, ahead: [1: ahead], fault)
      host.readAndSettle()
    }
  }

  /// Each value is kept as it was written.
  @Test func aHostThatNeverSynchronisesIsBroken() throws {
    let history = Self.whole { $0.synchronizingWindow = 0 }
    try expectBroken(
      Self.inStep, history, "vcpu1's TSC to be vcpu0's: 0x", "less than 1 s from that",
      "cycles ahead of it")
    try expectBroken(
      Self.master, history, "bit 0 set in vcpu1's record: the TSCs of all vCPUs were written",
      "KVM_CLOCK_TSC_STABLE set", "flags 0x0")
    #expect(try !judge(Self.apart, history).isBroken)
  }

  /// 2 s instead of 1.
  @Test func aWindowThatIsTooWideIsBroken() throws {
    let history = Self.whole { $0.synchronizingWindow *= 2 }
    try expectBroken(
      Self.apart, history, "vcpu1's TSC to go on from 0x", "more than 1 s from the others'",
      "bit 0 clear in vcpu0's record", "KVM_CLOCK_TSC_STABLE clear")
    #expect(try !judge(Self.inStep, history).isBroken)
  }

  /// A tenth of it.
  @Test func aWindowThatIsTooNarrowIsBroken() throws {
    let history = Self.whole { $0.synchronizingWindow /= 10 }
    try expectBroken(Self.inStep, history, "cycles ahead of it")
    try expectBroken(Self.master, history, "bit 0 set in vcpu0's record")
  }

  /// In step, but the master clock stays away; and the other way round.
  @Test func aMasterClockOfItsOwnMindIsBroken() throws {
    let away = Self.restored { host, _ in host.offsetsDiffer = true }
    try expectBroken(Self.master, away, "bit 0 set in vcpu0's record", "flags 0x0")
    let there = Self.restored(ahead: 2 * HistoryBuilder.second) { host, _ in
      host.offsetsDiffer = false
    }
    try expectBroken(Self.apart, there, "bit 0 clear in vcpu1's record", "flags 0x1")
  }

  @Test func aLateVCPUOutOfStepIsBroken() throws {
    let history = Self.history { host in
      let saved = host.saveRunningMachine()
      host.restore(saved)
      host.readAndSettle()
      host.createVCPU(2)
      host.vcpus[2]?.tscOffset &+= 1_000_000
      host.register(2)
    }
    try expectBroken(Self.inStep, history, "vcpu2's TSC to be vcpu0's: it was made after")
  }

  /// The record is made of the other vCPU's TSC.
  @Test func aRecordOfAnotherTSCIsBroken() throws {
    let history = Self.restored(ahead: 2 * HistoryBuilder.second) { host, id in
      if id == 1 { host.vcpus[1]?.tscOffset &+= UInt64(HistoryBuilder.second) }
    }
    #expect(try !judge(Self.keeps, history).isBroken)
    var host = HistoryBuilder(.restoreTSC)
    let saved = host.saveRunningMachine()
    host.restore(saved, ahead: [1: 2 * HistoryBuilder.second])
    host.read(1)
    host.amend { $0.tscTimestamp &-= UInt64(2 * HistoryBuilder.second) }
    try expectBroken(
      Self.keeps, host.history, "vcpu1's reading less the value set", "the TSCs are apart",
      "(2.0 s) too high")
  }

  /// A backend that takes the write and leaves the TSC as it is.
  @Test func writesThatAreIgnoredProveNothing() throws {
    let history = Self.history { host in
      let saved = host.saveRunningMachine()
      for ahead in [0, 2 * HistoryBuilder.second] {
        host.restore(saved, ahead: [1: ahead], parked: (2, true)) { host, id in
          host.vcpus[id]?.tscOffset = Script.origin
          host.offsetsDiffer = false
        }
        host.readAndSettle(except: 2)
      }
    }
    for id in [Self.inStep, Self.master, Self.apart, Self.keeps, Self.parked] {
      try expectNotTested(id, history, "to vcpu0's IA32_TSC, and its TSC is -", "cycles from that")
    }
  }

  @Test func oneRestoreIsNotEnough() throws {
    try expectNotTested(Self.inStep, Self.restored(), "TSCs beside that of the vCPU written first")
    try expectNotTested(Self.master, Self.restored(), "saw 6 records")
    try expectNotTested(Self.apart, Self.restored(), "different records")
    try expectNotTested(Self.keeps, Self.restored(), "readings on TSCs apart")
    try expectNotTested(Self.parked, Self.restored(), "no vCPU was left out")
  }

  @Test func aBracketAsWideAsTheValuesAreApartIsInconclusive() throws {
    let history = Self.history { host in
      let saved = host.saveRunningMachine()
      host.restore(saved)
      host.bracket = 20_000_000
      host.readAndSettle()
    }
    try expectInconclusive(Self.inStep, history, "no further apart")
  }

  @Test func aParkedVCPUThatIsLeftOutIsObserved() throws {
    let history = Script.history(of: .restoreTSC)
    guard case .observed(let value) = try judge(Self.parked, history) else {
      Issue.record("not observed")
      return
    }
    #expect(value == "bit 0 is clear while a vCPU that never ran has a TSC of its own")
  }

  /// A value that is about 1 s away may go either way.
  @Test func theEdgeOfTheWindowIsOwedNothing() throws {
    for history in [
      Self.restored(ahead: HistoryBuilder.second),
      Self.restored(ahead: HistoryBuilder.second, { host, _ in host.offsetsDiffer = false }),
    ] {
      #expect(try !judge(Self.master, history).isBroken)
      #expect(try !judge(Self.apart, history).isBroken)
    }
  }
}
