import PVClock
import Testing

@testable import ABIChecker

@Suite struct PageTests {
  /// Two records in memory that was filled; the second one is dumped after `change`.
  static func dumps(
    around: Int = 64, fill: UInt64 = 160, _ change: (inout [UInt8]) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 1] {
      let start = UInt64(0x10000 + id * 0x1000)
      host.fill(start - fill / 2 + 16, count: fill)
      host.register(id)
      host.dump(start - UInt64(around), count: 32 + 2 * around, id == 1 ? change : { _ in })
    }
    return host.history
  }

  @Test(arguments: [0, 63, 96, 159])
  func aByteBesideTheRecordIsBroken(at: Int) throws {
    try expectBroken(
      "PAGE-SIZE-32", Self.dumps { $0[at] = 0 }, "32 bytes from 0x11000",
      "byte at \(Hex(UInt64(0x11000 - 64 + at))) is 0x0")
  }

  @Test func aRecordThatWasNotWrittenIsBroken() throws {
    try expectBroken(
      "PAGE-SIZE-32",
      Self.dumps { $0.replaceSubrange(64..<96, with: repeatElement(0xa5, count: 32)) },
      "nothing written")
  }

  @Test func aRecordMayHoldTheFillByte() throws {
    try expectHolds("PAGE-SIZE-32", Self.dumps { $0[64 + 8] = 0xa5 })
  }

  @Test func fewerGuardBytesProveNothing() throws {
    for around in [0, 32, 63] {
      try expectNotTested("PAGE-SIZE-32", Self.dumps(around: around), "64")
    }
  }

  @Test func memoryThatWasNotFilledAccusesNobody() throws {
    try expectNotTested("PAGE-SIZE-32", Self.dumps(fill: 32) { $0[0] = 0 })
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    host.fill(0x10000 - 64, count: 160)
    host.dump(0x10000 - 64, count: 160) { $0 = [UInt8](repeating: 0xa5, count: 160) }
    try expectNotTested("PAGE-SIZE-32", host.history)
    try expectNotTested("PAGE-PAD-ZERO", host.history)
  }

  @Test func twoRecordsInOneDumpAccuseNobody() throws {
    var host = HistoryBuilder()
    host.machine(0, 1)
    host.fill(0x10000, count: 0x1000)
    for id in [0, 1] { host.register(id, at: 0x10400 + UInt64(id) * 64) }
    for _ in 0..<2 { host.dump(0x10000, count: 0x1000) }
    try expectNotTested("PAGE-SIZE-32", host.history)
  }

  @Test(arguments: [(4, "pad0 0xff"), (7, "pad0 0xff000000"), (30, "pad 0xff"), (31, "pad 0xff00")])
  func aPadByteInMemoryIsBroken(byte: Int, text: String) throws {
    try expectBroken("PAGE-PAD-ZERO", Self.dumps { $0[64 + byte] = 0xff }, text)
  }

  @Test func zeroPadsHold() throws {
    try expectHolds("PAGE-PAD-ZERO", Self.dumps())
  }

  @Test func oneRecordIsNotEnough() throws {
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    for id in ["PAGE-PAD-ZERO", "FLAGS-RESERVED-ZERO", "VERSION-EVEN"] {
      try expectNotTested(id, host.history, "saw 1 records", "needs at least 2")
    }
  }

  @Test func aPadThatAGuestSawIsBroken() throws {
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    host.amend { $0.pad = 0x0102 }
    try expectBroken("PAGE-PAD-ZERO", host.history, "pad 0x102")
  }

  @Test(arguments: [2, 3, 4, 5, 6, 7] as [UInt8])
  func aReservedFlagIsBroken(bit: UInt8) throws {
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    host.look(0)
    host.amend { $0.flags.insert(ClockPage.Flags(rawValue: 1 << bit)) }
    try expectBroken("FLAGS-RESERVED-ZERO", host.history, "flags \(Hex(UInt64(1 | 1 << bit)))")
    if bit == 2 {
      try expectBroken("FLAGS-RESERVED-ZERO", host.history, "PVCLOCK_COUNTS_FROM_ZERO")
    }
  }

  @Test func aReservedFlagAtTheEndOfALoopIsBroken() throws {
    var host = HistoryBuilder(.schedclock)
    host.machine(0)
    host.register(0)
    host.loop(0)
    host.amend { $0.flags = .countsFromZero }
    try expectBroken("FLAGS-RESERVED-ZERO", host.history, "flags 0x4")
  }

  @Test func aStoppedGuestIsNoFault() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for flags: ClockPage.Flags in [[], .guestStopped, [.tscStable, .guestStopped]] {
      host.register(0)
      host.amend { $0.flags = flags }
    }
    try expectHolds("FLAGS-RESERVED-ZERO", host.history)
  }

  // MARK: Records in loops and races

  static let rules = ["FLAGS-RESERVED-ZERO", "PAGE-PAD-ZERO", "MULSHIFT-EXACT"]

  /// What rules say of a record that no host may write.
  static func spoil(_ page: inout ClockPage) {
    page.flags.insert(.countsFromZero)
    page.pad0 = 7
    page.tscToSystemMultiplier = 1
  }

  static func expectAllBroken(_ host: HistoryBuilder, _ events: Int...) throws {
    for id in rules {
      try expectBroken(id, host.history)
      guard case .broken(let violations) = try judge(id, host.history) else { continue }
      #expect(violations.map(\.events) == events.map { [$0] }, "\(id)")
    }
  }

  @Test func theFirstReadingOfALoopIsARecordToo() throws {
    var host = HistoryBuilder(.schedclock)
    host.machine(0)
    host.register(0)
    host.loop(0) { Self.spoil(&$0.first.page) }
    try Self.expectAllBroken(host, host.events.count)
  }

  @Test func theReadingAfterTheWorstStepOfALoopIsARecordToo() throws {
    var host = HistoryBuilder(.schedclock)
    host.machine(0)
    host.register(0)
    host.loop(0) { result in
      result.backwards = 1
      Self.spoil(&result.worstAfter.page)
    }
    try Self.expectAllBroken(host, host.events.count)
  }

  /// A guest that saw no step leaves there whatever it likes.
  @Test func withoutAStepThereIsNoReadingAfterIt() throws {
    var host = HistoryBuilder(.schedclock)
    host.machine(0)
    host.register(0)
    host.loop(0) { Self.spoil(&$0.worstAfter.page) }
    for id in Self.rules { #expect(try !judge(id, host.history).isBroken) }
  }

  /// vCPU 1 has no record of its own: it reads vCPU 0's, whose rate is known.
  @Test func aRecordInARaceIsItsOwners() throws {
    for change in [
      { (result: inout RaceResult) in Self.spoil(&result.first.page) },
      { result in Self.spoil(&result.last.page) },
      { result in
        result.backwards = 1
        Self.spoil(&result.worstAfter.page)
      },
    ] {
      var host = HistoryBuilder(.contend)
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      host.race(1, [0, 1], owner: 0) { result, id in if id == 1 { change(&result) } }
      try Self.expectAllBroken(host, host.events.count)
      try expectBroken("FLAGS-RESERVED-ZERO", host.history, "vcpu0's record", "flags 0x5")
    }
  }

  @Test func eachVersionThatALoopSawIsARecord() throws {
    var host = HistoryBuilder(.torn)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.watch(1, of: 0, rounds: 140) { result in
      for at in result.stretches.indices.dropLast() { Self.spoil(&result.stretches[at].page) }
      // A reading that tore may be of two updates.
      result.tornPair = [result.stretches[0].page, result.stretches[1].page]
    } work: { host, round in
      host.setClock(UInt64(round))
      host.enter(0)
    }
    let event = host.events.count
    guard case .broken(let violations) = try judge("FLAGS-RESERVED-ZERO", host.history) else {
      Issue.record("140 records with bit 2 hold")
      return
    }
    #expect(violations.allSatisfy { $0.events == [event] })
    #expect(violations.last?.seen.contains("more like these") == true)
    for id in Self.rules { try expectBroken(id, host.history) }
  }

  // MARK: Memory that is no record

  /// The guest clears bit 1 with other bits beside it, and looks before it writes the MSR.
  @Test func theGuestsOwnBytesAccuseNobody() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    host.host(.poked(address: 0x1001c, value: 0xffff_fcff))
    host.host(.poked(address: 0x10000, value: 7))
    host.look(0)
    host.amend {
      ($0.flags, $0.pad) = (.reserved, 0xffff)
      $0.version = 7
    }
    for id in ["FLAGS-RESERVED-ZERO", "PAGE-PAD-ZERO", "VERSION-EVEN"] {
      try expectHolds(id, host.history)
    }
    host.register(0)
    host.look(0)
    host.amend { $0.flags = .reserved }
    try expectBroken("FLAGS-RESERVED-ZERO", host.history, "flags 0xfc")
  }

  @Test func aRecordThatTheHostRegisteredIsNoneBeforeTheNextEntry() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    host.hostWriteMSR(0, MSR.systemTime, 0x20001)
    host.look(0)
    host.amend { $0 = ClockPage(version: 7, pad0: 1, flags: .reserved, pad: 1) }
    for id in ["FLAGS-RESERVED-ZERO", "PAGE-PAD-ZERO", "VERSION-EVEN"] {
      try expectHolds(id, host.history)
    }
    host.enter(0)
    host.look(0)
    host.amend { $0 = ClockPage(version: 7, pad0: 1, flags: .reserved, pad: 1) }
    for id in ["FLAGS-RESERVED-ZERO", "PAGE-PAD-ZERO", "VERSION-EVEN"] {
      try expectBroken(id, host.history)
    }
  }

  /// Another vCPU had a record among the guard bytes and has given it up.
  @Test func aFormerRecordAmongTheGuardBytesAccusesNobody() throws {
    var host = HistoryBuilder()
    host.machine(0, 1)
    host.fill(0x10000 - 64, count: 160)
    host.register(0)
    host.register(1, at: 0x10020)
    host.register(1, at: 0x20000)
    host.fill(0x30000, count: 32)
    host.dump(0x10000 - 64, count: 160)
    try expectNotTested("PAGE-SIZE-32", host.history)
    host.fill(0x10000 - 64, count: 160)
    host.dump(0x10000 - 64, count: 160) { $0 = [UInt8](repeating: 0xa5, count: 160) }
    try expectNotTested("PAGE-SIZE-32", host.history)
    #expect(try !judge("PAGE-PAD-ZERO", host.history).isBroken)
  }
}
