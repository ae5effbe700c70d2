import PVClock
import Testing

@testable import ABIChecker

/// The records that the wall clock MSRs write.
@Suite struct WallClockTests {
  /// Eight records through both MSRs; `fault` acts before each.
  static func records(
    bracket: UInt64 = 3_000, source: SimulatedTime.Source = .tsc,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.wallClock, source: source)
    host.machine(0, 1)
    host.wait(milliseconds: 50)
    for id in [0, 1, 0] { host.register(id) }
    host.bracket = bracket
    for round in 0..<4 {
      for (id, msr) in [(0, MSR.wallClock), (1, MSR.wallClockOld)] {
        fault(&host)
        Script.wall(&host, id, at: round % 2 == 0 ? 0x30ff8 : 0x30ffc, msr)
      }
    }
    return host
  }

  /// Good records, and one more whose bytes around 0x30000 are changed before the host looks.
  static func oneMore(_ address: UInt64 = 0x30040, _ change: (inout HistoryBuilder) -> Void)
    -> History
  {
    var host = records()
    host.fillWall(address - 64)
    host.readRealtime()
    host.writeWall(0, at: address)
    host.readRealtime()
    change(&host)
    host.lookAtWall(address - 64)
    return host.history
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func aRecordHolds(source: SimulatedTime.Source) throws {
    for id in ["WALL-VALUE", "WALL-SIZE-12", "WALL-ANY-ADDRESS"] {
      try expectHolds(id, Self.records(source: source).history)
    }
  }

  @Test func theCurrentTimeIsNoEpoch() throws {
    let history = Self.records { $0.wall.error = 60_000_000 }.history
    try expectBroken("WALL-VALUE", history, "sec * 10^9 + nsec at 0x30ff8", "(60.0 ms)", "too high")
    try expectBroken(
      "WALL-VALUE", Self.records { $0.wall.error = -2_700_000_000_000 }.history, "too low")
  }

  @Test func aNanosecondPartOfASecondIsBroken() throws {
    let history = Self.oneMore { host in
      let seconds = host.wall.version(at: 0x30044)
      let nanoseconds = host.wall.version(at: 0x30048)
      let record = WallClock(
        version: 2, seconds: seconds - 1, nanoseconds: nanoseconds + 1_000_000_000)
      host.wall.store(record.bytes, at: 0x30040)
    }
    try expectBroken("WALL-VALUE", history, "nsec below 10^9", "nsec 1")
  }

  @Test func aStepOfCLOCK_REALTIMEIsInconclusive() throws {
    for step in [1_000_000_000, -1_000_000_000 as Int64] {
      let history = Self.records { host in
        host.wall.realtimeOffset &+= UInt64(bitPattern: step)
      }.history
      try expectInconclusive("WALL-VALUE", history, "s) wide")
    }
  }

  /// Too small to be told from slewing, between the readings around a write.
  @Test func aSmallStepIsNoFault() throws {
    var host = Self.records()
    for step in [9_000, -9_000] as [Int64] {
      host.fillWall(0x30000)
      host.readRealtime()
      host.writeWall(0, at: 0x30040)
      host.wall.realtimeOffset &+= UInt64(bitPattern: step)
      host.readRealtime()
      host.lookAtWall(0x30000)
    }
    try expectHolds("WALL-VALUE", host.history)
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive("WALL-VALUE", Self.records(bracket: 40_000_000).history, "10.0 ms")
  }

  @Test func withoutReadingsOfTheClocksItIsNotTested() throws {
    let whole = Self.records().history
    var history = whole
    history.events.removeAll { if case .hostClock = $0.action { true } else { false } }
    try expectNotTested("WALL-VALUE", history, "saw 0 records")
    history = whole
    history.events.removeAll { if case .read = $0.action { true } else { false } }
    try expectNotTested("WALL-VALUE", history, "saw 0 records")
  }

  /// A clock set above CLOCK_REALTIME: sec has no sign.
  @Test func anEpochBefore1970IsNotJudged() throws {
    var host = Self.records()
    host.setClock(1 << 62)
    host.register(0)
    Script.wall(&host, 0, at: 0x30040)
    try expectHolds("WALL-VALUE", host.history)
  }

  // MARK: Bytes

  @Test func aByteBesideTheRecordIsBroken() throws {
    for (address, text) in [(0x3003f, "0x3003f"), (0x3004c, "0x3004c")] as [(UInt64, String)] {
      let history = Self.oneMore { $0.wall.bytes[address] = 7 }
      try expectBroken("WALL-SIZE-12", history, "12 bytes from 0x30040", "byte at \(text) is 0x7")
    }
  }

  @Test func aRecordThatIsNotWrittenIsBroken() throws {
    let history = Self.oneMore(0x30ffc) { host in
      host.wall.store([UInt8](repeating: 0xa5, count: 12), at: 0x30ffc)
    }
    try expectBroken("WALL-SIZE-12", history, "a record of 0xa5")
    try expectBroken("WALL-ANY-ADDRESS", history, "0x30ffc", "nothing written")
  }

  @Test func anAddressRoundedDownIsBroken() throws {
    let history = Self.oneMore(0x30044) { host in
      let record = (0..<12 as Range<UInt64>).map { host.wall.bytes[0x30044 + $0]! }
      host.wall.store([UInt8](repeating: 0xa5, count: 12), at: 0x30044)
      host.wall.store(record, at: 0x30040)
    }
    try expectBroken("WALL-ANY-ADDRESS", history, "at 0x30044")
  }

  @Test func withoutACrossingItIsNotTested() throws {
    var host = HistoryBuilder(.wallClock)
    host.machine(0)
    host.register(0)
    for _ in 0..<9 { Script.wall(&host, 0, at: 0x30040) }
    try expectNotTested("WALL-ANY-ADDRESS", host.history, "page boundary")
    try expectNotTested("WALL-UNALIGNED", host.history, "saw 0 writes")
  }

  @Test func unalignedAddressesAreCounted() throws {
    var host = HistoryBuilder(.wallClock)
    host.machine(0)
    host.register(0)
    for offset in [1, 2, 3, 5, 6, 7] as [UInt64] { Script.wall(&host, 0, at: 0x30040 + offset) }
    #expect(
      try judge("WALL-UNALIGNED", host.history)
        == .observed(value: "6 of 6 records written at exactly that address"))
  }

  // MARK: Version

  static func versions(_ change: (inout HistoryBuilder) -> Void = { _ in }) -> History {
    var host = HistoryBuilder(.wallClock)
    host.machine(0)
    for version: UInt32 in [0, 1, 2, 6, 0xffff_fffe, 0xffff_ffff] {
      host.pokeWall(0x30040, version)
      host.writeWall(0, at: 0x30040)
      change(&host)
      host.lookAtWall(0x30040, count: 12)
    }
    return host.history
  }

  @Test func aWriteRaisesTheVersion() throws {
    try expectHolds("WALL-VERSION", Self.versions())
  }

  @Test func anotherVersionIsBroken() throws {
    let history = Self.versions { host in
      let version = host.wall.version(at: 0x30040) &- 1
      host.wall.store((0..<4).map { UInt8(truncatingIfNeeded: version >> (8 * $0)) }, at: 0x30040)
    }
    try expectBroken("WALL-VERSION", history, "version 2 after 0", "version 1")
    try expectBroken(
      "WALL-VERSION", Self.versions { $0.wall.store([2, 0, 0, 0], at: 0x30040) },
      "version 0 after 4294967294")
  }

  @Test func evenVersionsAreNotEnough() throws {
    var host = HistoryBuilder(.wallClock)
    host.machine(0)
    for version in 0..<9 as Range<UInt32> {
      host.pokeWall(0x30040, version * 2)
      host.writeWall(0, at: 0x30040)
      host.lookAtWall(0x30040, count: 12)
    }
    try expectNotTested("WALL-VERSION", host.history, "did not see odd, wraps")
  }

  @Test func withoutAnEvenVersionItIsNotTested() throws {
    var host = HistoryBuilder(.wallClock)
    host.machine(0)
    for version: UInt32 in [1, 3, 5, 7, 9, 0xffff_ffff] {
      host.pokeWall(0x30040, version)
      host.writeWall(0, at: 0x30040)
      host.lookAtWall(0x30040, count: 12)
    }
    try expectNotTested("WALL-VERSION", host.history, "did not see even")
  }

  @Test func oneVCPUIsNotEnough() throws {
    var host = HistoryBuilder(.wallClock)
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    for msr in [MSR.wallClock, MSR.wallClockOld] {
      for _ in 0..<5 { Script.wall(&host, 0, at: 0x30040, msr) }
    }
    try expectNotTested("WALL-VALUE", host.history, "1 different vCPUs that wrote")
  }

  // MARK: The host's write

  static func byHost(_ change: (inout HistoryBuilder) -> Void = { _ in }) -> History {
    var host = HistoryBuilder(.wallClock)
    host.machine(0)
    for _ in 0..<2 {
      host.fillWall(0x30000)
      host.hostWriteWall(0, at: 0x30040)
      change(&host)
      host.lookAtWall(0x30000)
    }
    return host.history
  }

  @Test func theHostsWriteWritesAtOnce() throws {
    try expectHolds("WALL-HOSTSET", Self.byHost())
    let kept = Self.byHost { $0.wall.store([UInt8](repeating: 0xa5, count: 12), at: 0x30040) }
    try expectBroken("WALL-HOSTSET", kept, "0x30040 before any vCPU enters", "nothing written")
    try expectNotTested("WALL-HOSTSET", Self.byHost { $0.enter(0) }, "saw 0")
  }
}
