import PVClock
import Testing

@testable import ABIChecker

/// The wall clock's record over time, and its MSR's value.
@Suite struct WallLaterTests {
  static func script(
    _ scenario: ScenarioName, source: SimulatedTime.Source = .tsc,
    _ change: (inout HistoryBuilder) -> Void
  ) -> History {
    var host = HistoryBuilder(scenario, source: source)
    change(&host)
    switch scenario {
    case .wallLater: Script.wallLater(&host)
    case .wallRewrite: Script.wallRewrite(&host)
    default: Script.wallMSR(&host)
    }
    return host.history
  }

  /// Changes a byte of the last `count` looks at memory that begins at `start`.
  static func spoil(
    _ history: History, looksAt start: Hex, byte: Int, count: Int = 1
  ) -> History {
    var history = history
    let looks = history.events.indices.filter {
      if case .memory(start, _) = history.events[$0].action { true } else { false }
    }
    for at in looks.suffix(count) {
      guard case .memory(_, var hex) = history.events[at].action else { continue }
      hex.bytes[byte] ^= 0x55
      history.events[at].action = .memory(address: start, bytes: hex)
    }
    return history
  }

  @Test func aRecordThatChangesLaterIsBroken() throws {
    let history = Script.history(of: .wallLater)
    try expectHolds("WALL-ONESHOT", history)
    // The last look but one is the one after the last setting; the last belongs to a write of its own.
    let spoiled = Self.spoil(history, looksAt: 0x30000, byte: 68, count: 2)
    try expectBroken("WALL-ONESHOT", spoiled, "as the write of 0x4b564d00 left them", "sec 16")
    let beside = Self.spoil(history, looksAt: 0x30000, byte: 3, count: 2)
    try expectBroken("WALL-ONESHOT", beside, "other bytes around it")
  }

  @Test func withoutASettingItIsNotTested() throws {
    var history = Script.history(of: .wallLater)
    history.events.removeAll { if case .setClock = $0.action { true } else { false } }
    try expectNotTested("WALL-ONESHOT", history, "saw 0")
    try expectNotTested("WALL-FOLLOWS-SETCLOCK", history, "saw 0")
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func theEpochFollowsTheClock(source: SimulatedTime.Source) throws {
    try expectHolds("WALL-FOLLOWS-SETCLOCK", Script.history(of: .wallLater, source: source))
  }

  @Test func anEpochThatStaysIsBroken() throws {
    var host = HistoryBuilder(.wallLater)
    host.machine(0)
    host.register(0)
    Script.wall(&host, 0, at: 0x30040)
    host.setClock(host.clock + 3_600_000_000_000)
    host.register(0)
    host.wall.error = 3_600_000_000_000
    Script.wall(&host, 0, at: 0x30040)
    try expectBroken("WALL-FOLLOWS-SETCLOCK", host.history, "(-1.0 h)", "too high")
  }

  // MARK: Written again

  @Test func aSlewIsNoFault() throws {
    try expectHolds("WALL-REWRITE-STABLE", Script.history(of: .wallRewrite))
    try expectHolds("WALL-DRIFT", Script.history(of: .wallRewrite))
  }

  @Test func twoReadingsApartAreBroken() throws {
    var host = HistoryBuilder(.wallRewrite)
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    for _ in 0..<8 {
      host.readRealtime()
      for round in 0..<40 as Range<UInt64> {
        host.wall.readsApart = 50 + round % 3 * 700
        host.writeWall(0, at: 0x30040)
        host.lookAtWall(0x30040, count: 12)
      }
    }
    host.readRealtime()
    try expectBroken(
      "WALL-REWRITE-STABLE", host.history, "from one write to the next", "-700 ns", "1400 ns")
  }

  /// 1 ms a write in one direction: CLOCK_REALTIME's readings around the writes show no such steps.
  @Test(arguments: [1_000_000, -1_000_000, 90, 5] as [Int64])
  func anEpochThatCreepsIsBroken(step: Int64) throws {
    var host = HistoryBuilder(.wallRewrite)
    host.machine(0)
    host.bracket = 60
    for _ in 0..<2 { host.register(0) }
    for _ in 0..<8 {
      host.readRealtime()
      for _ in 0..<40 {
        host.wall.error += step
        host.writeWall(0, at: 0x30040)
        host.lookAtWall(0x30040, count: 12)
      }
    }
    host.readRealtime()
    try expectBroken(
      "WALL-REWRITE-STABLE", host.history, "the move of the epoch over 40 writes", "too ")
    // 5 ns a write are within slew and rounding; 40 writes together are not.
    if abs(step) > 5 {
      try expectBroken("WALL-REWRITE-STABLE", host.history, "from one write to the next in [-")
    }
  }

  /// Before 6.7 the two clocks were read one after the other: apart by no more than the write took.
  @Test func onlyAnErrorWithinTheWriteFitsTheDeviation() throws {
    for (apart, isKnown) in [(700, true), (0, false)] as [(UInt64, Bool)] {
      var host = HistoryBuilder(.wallRewrite)
      host.machine(0)
      for _ in 0..<2 { host.register(0) }
      for _ in 0..<4 {
        host.readRealtime()
        for round in 0..<40 {
          if apart > 0 {
            host.wall.readsApart = 50 + UInt64(round % 3) * apart
          } else {
            host.wall.error = Int64(round % 2) * 500_000
          }
          host.writeWall(0, at: 0x30040)
          host.lookAtWall(0x30040, count: 12)
        }
      }
      host.readRealtime()
      guard case .broken(let violations) = try judge("WALL-REWRITE-STABLE", host.history) else {
        Issue.record("not broken")
        continue
      }
      #expect(violations.allSatisfy { ($0.fitsDeviation == true) == isKnown })
    }
  }

  /// However small or large: it may have been a step of CLOCK_REALTIME, which goes one way.
  @Test(arguments: [400, -400, 50_000, 2_000_000_000] as [Int64])
  func aStepOfCLOCK_REALTIMEIsNoFault(step: Int64) throws {
    var host = HistoryBuilder(.wallRewrite)
    host.machine(0)
    host.bracket = 100
    for _ in 0..<2 { host.register(0) }
    for round in 0..<8 {
      host.readRealtime()
      for write in 0..<40 {
        if round == 4, write == 20 { host.wall.realtimeOffset &+= UInt64(bitPattern: step) }
        host.writeWall(0, at: 0x30040)
        host.lookAtWall(0x30040, count: 12)
      }
    }
    host.readRealtime()
    #expect(try !judge("WALL-REWRITE-STABLE", host.history).isBroken)
  }

  @Test func withoutReadingsOfCLOCK_REALTIMEItIsNotTested() throws {
    var history = Script.history(of: .wallRewrite)
    history.events.removeAll { if case .hostClock = $0.action { true } else { false } }
    try expectNotTested("WALL-REWRITE-STABLE", history, "CLOCK_REALTIME")
    history.events.removeAll { if case .memory = $0.action { true } else { false } }
    try expectNotTested("WALL-DRIFT", history, "pairs of writes")
  }

  // MARK: The MSR

  @Test func anotherValueIsBroken() throws {
    var host = HistoryBuilder(.wallMSR)
    Script.wallMSR(&host)
    try expectHolds("WALL-READBACK", host.history)
    try expectHolds("WALL-GLOBAL", host.history)
    host.readWallMSR(1, value: 0x50000)
    try expectBroken(
      "WALL-READBACK", host.history, "0x50001, the last value written, by vcpu1",
      "0x50000 read on vcpu1 by the guest through 0x11")
    try expectHolds("WALL-GLOBAL", host.history)
    host.readWallMSR(0, value: 0)
    try expectBroken(
      "WALL-GLOBAL", host.history, "0x50001, the last value written, by vcpu1",
      "0x0 read on vcpu0 by the host through 0x4b564d00")
  }

  @Test func oneVCPUIsNotEnough() throws {
    var host = HistoryBuilder(.wallMSR)
    host.machine(0)
    for value in 1..<9 as Range<UInt64> {
      host.writeWall(0, at: value << 20)
      host.readWallMSR(0)
    }
    try expectHolds("WALL-READBACK", host.history)
    try expectNotTested("WALL-GLOBAL", host.history, "saw 0 readings on other vCPUs")
  }

  @Test func whatIsWrittenAtAddress0IsBroken() throws {
    let history = Script.history(of: .wallMSR)
    for id in ["WALL-ZERO-NOP", "WALL-UNBACKED-NOFAULT"] { try expectHolds(id, history) }
    let spoiled = Self.spoil(history, looksAt: 0, byte: 4)
    try expectBroken(
      "WALL-UNBACKED-NOFAULT", spoiled, "256 bytes at 0x0", "byte at 0x4 went from 0xa5 to 0xf0")
    var host = HistoryBuilder(.wallMSR)
    host.machine(0)
    host.fillWall(0, count: 256)
    host.lookAtWall(0, count: 256)
    host.writeWall(0, at: 0)
    host.wall.store([2, 0, 0, 0], at: 0)
    host.lookAtWall(0, count: 256)
    try expectBroken("WALL-ZERO-NOP", host.history, "byte at 0x0 went from 0xa5 to 0x2")
  }

  @Test func aFaultIsBroken() throws {
    let fault = Fault(vector: 13, errorCode: 0, address: 0x8000)
    for (value, id): (Hex, String) in [
      (0, "WALL-ZERO-NOP"), (0xffff_ffff_ffff_fffc, "WALL-UNBACKED-NOFAULT"),
    ] {
      var host = HistoryBuilder(.wallMSR)
      Script.wallMSR(&host)
      host.bracketed(.vcpu(0)) { _ in [.wroteMSR(msr: 0x11, value: value, fault: fault)] }
      try expectBroken(id, host.history, "write of \(value) to 0x11", "vector 13")
    }
  }

  @Test func withoutLooksNothingIsTested() throws {
    var history = Script.history(of: .wallMSR)
    history.events.removeAll { if case .memory = $0.action { true } else { false } }
    for id in ["WALL-ZERO-NOP", "WALL-UNBACKED-NOFAULT"] {
      try expectNotTested(id, history, "looks")
    }
  }
}
