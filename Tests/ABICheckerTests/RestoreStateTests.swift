import PVClock
import Testing

@testable import ABIChecker

@Suite struct RestoreStateTests {
  static func history(_ steps: (inout HistoryBuilder) -> Void) -> History {
    var host = HistoryBuilder(.restoreState)
    steps(&host)
    return host.history
  }

  // MARK: RESTORE-PENDING-FLAG

  @Test func aFlagInTheRestoredRecordIsBroken() throws {
    let history = Self.history { host in
      let saved = host.saveTold()
      host.goOn(with: saved)
      for id in [0, 1] {
        host.enter(id)
        host.look(id)
        host.amend { $0.flags.insert(.guestStopped) }
      }
    }
    try expectBroken("RESTORE-PENDING-FLAG", history, "before the save", "flags 0x3")
  }

  @Test func aFlagBeforeTheEntryIsBroken() throws {
    let history = Self.history { host in
      _ = host.saveTold()
      host.amend { $0.flags.insert(.guestStopped) }
    }
    try expectBroken("RESTORE-PENDING-FLAG", history, "has not entered", "flags 0x3")
  }

  @Test func aGuestThatIsToldAgainInVainIsBroken() throws {
    let history = Self.history { host in
      let saved = host.saveTold()
      host.goOn(with: saved)
      host.tellStopped(0)
      host.enter(0)
      host.look(0)
      host.amend { $0.flags.remove(.guestStopped) }
    }
    try expectBroken("RESTORE-PENDING-FLAG", history, "told again", "flags 0x1")
  }

  @Test func whoIsNotToldAgainProvesTooLittle() throws {
    let history = Self.history { host in
      let saved = host.saveTold()
      host.goOn(with: saved)
      for id in [0, 1] {
        host.enter(id)
        host.look(id)
      }
    }
    try expectNotTested("RESTORE-PENDING-FLAG", history)
  }

  /// A flag that was delivered is in the memory that is saved.
  @Test func aFlagThatWasDeliveredIsAnotherRulesBusiness() throws {
    let history = Self.history { host in
      let saved = host.saveTold(delivering: true)
      host.goOn(with: saved)
      for id in [0, 1] {
        host.enter(id)
        host.look(id)
      }
    }
    try expectNotTested("RESTORE-PENDING-FLAG", history)
  }

  // MARK: RESTORE-INIT

  static func initialized(
    reading value: Hex = 0, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    history { host in
      let saved = host.saveTold()
      for (sender, target) in [(1, 0), (0, 1)] {
        host.initAfterRestore(target, from: sender, saved, reading: value, fault)
      }
    }
  }

  @Test func whatINITDoesHolds() throws { try expectHolds("RESTORE-INIT", Self.initialized()) }

  @Test func anMSRThatINITLeavesIsBroken() throws {
    try expectBroken(
      "RESTORE-INIT", Self.initialized(reading: 0x10001), "0 in vcpu0's", "0x10001")
  }

  @Test func aRecordThatIsStillWrittenIsBroken() throws {
    let history = Self.initialized { host in host.records[0x10000]?.systemTime &+= 1 }
    try expectBroken("RESTORE-INIT", history, "vcpu0's record as it was after INIT", "system_time")
  }

  @Test func aClockThatINITRestartsIsBroken() throws {
    let history = Self.initialized { $0.stepClock(by: -88_000_000_000) }
    try expectBroken("RESTORE-INIT", history, "88000000000 ns", "(88.0 s) too low")
  }

  @Test func oneVCPUIsNotEnough() throws {
    let history = Self.history { host in
      let saved = host.saveTold()
      host.initAfterRestore(1, from: 0, saved)
    }
    try expectNotTested("RESTORE-INIT", history, "vcpu0")
  }

  /// What the guest registered by itself has rules of its own.
  @Test func aVMThatWasNotRestoredProvesNothing() throws {
    let history = Self.history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      host.replug(0, how: .initialized(by: 1))
      host.hostReadMSR(0, MSR.systemTime)
      host.register(0)
    }
    try expectNotTested("RESTORE-INIT", history)
  }
}

@Suite struct PostCopyTests {
  static func history(
    waits: Bool = true, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.postCopy)
    host.machineInMemory()
    for id in [0, 1] { host.postCopy(id, waits: waits, fault) }
    return host.history
  }

  /// The record of vCPU 0 in the page that was away.
  static func change(
    _ change: @escaping (inout ClockPage) -> Void
  ) -> (inout HistoryBuilder) -> Void {
    { host in
      let key = host.key(of: 0x1000_0040)
      if host.records[key] != nil { change(&host.records[key]!) }
    }
  }

  @Test func aRecordThatIsWrittenOnceItsPageIsThereHolds() throws {
    try expectHolds("POSTCOPY-RECORD-WRITTEN", Self.history())
  }

  @Test func aRecordThatIsNotWrittenIsBroken() throws {
    try expectBroken(
      "POSTCOPY-RECORD-WRITTEN", Self.history(Self.change { $0.version = 2 }),
      "an even version above 2", "version 2")
  }

  @Test func anOddVersionIsBroken() throws {
    try expectBroken(
      "POSTCOPY-RECORD-WRITTEN", Self.history(Self.change { $0.version |= 1 }), "an even version")
  }

  @Test func aFlagThatIsLostIsBroken() throws {
    try expectBroken(
      "POSTCOPY-RECORD-WRITTEN", Self.history(Self.change { $0.flags.remove(.guestStopped) }),
      "bit 1 set in vcpu0's record: its guest was told while the page was missing", "flags 0x1")
  }

  @Test func aFlagThatNobodyAskedForIsBroken() throws {
    try expectBroken(
      "POSTCOPY-RECORD-WRITTEN", Self.history(Self.change { $0.flags.insert(.guestStopped) }),
      "bit 1 clear in vcpu0's record")
  }

  @Test func aClockThatIsLostIsBroken() throws {
    try expectBroken(
      "POSTCOPY-RECORD-WRITTEN",
      Self.history { host in
        host.setClock(66_000_000_000)
        host.stepClock(by: -1_000_000_000)
        host.read(0)
      },
      "66000000000 ns", "(1000.0 ms) too low")
  }

  @Test func whereNobodyWaitedItIsNotTested() throws {
    try expectNotTested("POSTCOPY-RECORD-WRITTEN", Self.history(waits: false), "nothing waited")
  }
}
