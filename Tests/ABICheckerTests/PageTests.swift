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
      try expectNotTested(id, host.history, "saw 1 records", "needs 2")
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
}
