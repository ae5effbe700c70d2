import PVClock
import Testing

@testable import ABIChecker

@Suite struct FreezeTests {
  static let move = "SYSTIME-MOVE-FREEZES-OLD"
  static let disable = "SYSTIME-DISABLE-FREEZES"

  enum Revoked { case moved, disabled }

  /// vCPU 0's record at 0x10000 is given up, the clock is set and the vCPUs in `enter` enter; vCPU 1's is live.
  static func given(
    up how: Revoked, enter: [Int] = [0, 1], setsClock: Bool = true,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.freeze)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for value: UInt64 in how == .moved ? [0x20001] : [0x10000, 0] {
      if value == 0 { host.register(0) }
      host.run(0, .write(MSR.systemTime, value))
      host.look(0, at: 0x10000)
      host.look(1)
      if setsClock { host.setClock(3_600_000_000_000) }
      for id in enter { host.enter(id) }
      fault(&host)
      host.look(0, at: 0x10000)
      host.look(1)
    }
    return host.history
  }

  @Test func aRecordThatWasGivenUpStaysAsItIs() throws {
    try expectHolds(Self.move, Self.given(up: .moved))
    try expectHolds(Self.disable, Self.given(up: .disabled))
  }

  /// "Whatever the other bits are": 0 alone does not show it.
  @Test func oneValueIsNotAnyValue() throws {
    var history = Self.given(up: .disabled)
    let last = try #require(
      history.events.lastIndex { if case .wroteMSR(_, 0, _) = $0.action { true } else { false } })
    history.events.removeSubrange(last...)
    try expectNotTested(Self.disable, history, "writes with bit 0 clear")
  }

  /// Two vCPUs share a record: it is live until both have given it up.
  @Test func aRecordThatAnotherVCPUStillHasMayChange() throws {
    var host = HistoryBuilder(.freeze)
    host.machine(0, 1, 2)
    for id in [0, 1] { host.register(id, at: 0x10000) }
    host.register(2)
    host.register(0, at: 0x20000)
    for _ in 0..<2 {
      host.look(1, at: 0x10000)
      host.setClock(3_600_000_000_000)
      for id in [0, 1, 2] { host.enter(id) }
    }
    host.look(1, at: 0x10000)
    #expect(try !judge(Self.move, host.history).isBroken)
  }

  @Test func anUpdateOfTheOldRecordIsBroken() throws {
    let late: (inout HistoryBuilder) -> Void = { host in
      host.records[0x10000]?.version += 2
      host.records[0x10000]?.systemTime = 3_600_000_000_000
    }
    for (id, how) in [(Self.move, Revoked.moved), (Self.disable, .disabled)] {
      try expectBroken(
        id, Self.given(up: how, late), "0x10000", "version 4", "version 6",
        "system_time 3600000000000")
    }
  }

  /// Clearing the record is a write, too.
  @Test func aRecordThatWasClearedIsBroken() throws {
    try expectBroken(
      Self.disable, Self.given(up: .disabled) { $0.records[0x10000] = ClockPage() },
      "version 4", "version 0")
  }

  @Test func oneByteIsEnough() throws {
    try expectBroken(
      Self.move, Self.given(up: .moved) { $0.records[0x10000]?.flags.insert(.guestStopped) },
      "flags 0x1", "flags 0x3")
  }

  @Test func aRuleSpeaksOnlyOfItsOwnWrite() throws {
    let late: (inout HistoryBuilder) -> Void = { $0.records[0x10000]?.version += 2 }
    try expectNotTested(Self.move, Self.given(up: .disabled, late))
    try expectNotTested(Self.disable, Self.given(up: .moved, late))
  }

  @Test func withoutAnEntryOfItsOwnerNothingIsShown() throws {
    try expectNotTested(Self.move, Self.given(up: .moved, enter: [1]), "vcpu0")
    try expectNotTested(Self.disable, Self.given(up: .disabled, enter: [1]), "vcpu0")
  }

  @Test func withoutALiveRecordThatChangesNothingIsShown() throws {
    try expectNotTested(Self.move, Self.given(up: .moved, enter: [0]), "no live record")
  }

  @Test func withoutASettingOfTheClockNothingIsShown() throws {
    try expectNotTested(Self.disable, Self.given(up: .disabled, setsClock: false))
  }

  @Test func aRecordThatIsRegisteredAgainMayChange() throws {
    for how in [Revoked.moved, .disabled] {
      let history = Self.given(up: how) { $0.register(0, at: 0x10000) }
      #expect(try !judge(Self.move, history).isBroken)
      #expect(try !judge(Self.disable, history).isBroken)
    }
  }

  @Test func anotherMachinesRecordsAreOthers() throws {
    var host = HistoryBuilder(.freeze)
    for _ in 0..<2 {
      host.machine(0, 1)
      host.register(1, at: 0x20000)
      host.register(0, at: 0x10000)
      for id in [0, 1] { host.look(id) }
      host.setClock(5)
      for id in [0, 1] { host.enter(id) }
      for id in [0, 1] { host.look(id) }
      host.register(0, at: 0x20000)
      host.run(1, .write(MSR.systemTime, 0))
    }
    #expect(try !judge(Self.move, host.history).isBroken)
    #expect(try !judge(Self.disable, host.history).isBroken)
  }

  /// vCPU 1 reads, disables, waits and enables.
  static func reenabled(
    milliseconds: UInt64 = 20, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.freeze)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.wait(milliseconds: 50)
    host.read(1)
    host.run(1, .write(MSR.systemTime, 0))
    host.wait(milliseconds: milliseconds)
    fault(&host)
    host.register(1)
    return host.history
  }

  static let reenable = "SYSTIME-REENABLE-KEEPS-TIME"

  @Test func timeGoesOnWhileTheClockIsDisabled() throws {
    try expectHolds(Self.reenable, Self.reenabled())
  }

  @Test func aRestartAtTheEnableIsBroken() throws {
    try expectBroken(
      Self.reenable, Self.reenabled { $0.restartClock() }, "the advance of vcpu1's reading from 50",
      "[20",
      "too ")
  }

  @Test func aClockThatStandsStillWhileDisabledIsBroken() throws {
    try expectBroken(
      Self.reenable, Self.reenabled { $0.stepClock(by: -20_000_000) }, "20.0 ms",
      "(20.0 ms) too low")
  }

  @Test func aRewriteIsNoPairOfDisableAndEnable() throws {
    var host = HistoryBuilder(.freeze)
    host.machine(0)
    for _ in 0..<3 { host.register(0) }
    try expectNotTested(Self.reenable, host.history)
  }
}
