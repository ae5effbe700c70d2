import PVClock
import Testing

@testable import ABIChecker

@Suite struct VersionsTests {
  @Test(arguments: [1, 7, 0xffff_ffff] as [UInt32])
  func anOddVersionIsBroken(version: UInt32) throws {
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    host.look(0)
    host.amend { $0.version = version }
    try expectBroken("VERSION-EVEN", host.history, "even version in vcpu0", "version \(version)")
  }

  @Test func anOddVersionAtTheEndOfALoopIsBroken() throws {
    var host = HistoryBuilder(.storm)
    host.machine(0, 1)
    host.register(1)
    host.loop(1)
    host.amend { $0.version = 4_000_001 }
    try expectBroken("VERSION-EVEN", host.history, "vcpu1", "version 4000001")
  }

  @Test func zeroIsEven() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for _ in 0..<2 {
      host.register(0)
      host.amend { $0.version = 0 }
    }
    try expectHolds("VERSION-EVEN", host.history)
  }

  /// Six versions that the guest writes, each followed by an update that leaves the version of `after`.
  static func updates(_ pairs: [(before: UInt32, after: UInt32)]) -> History {
    var host = HistoryBuilder(.version)
    host.machine(0)
    host.register(0)
    for (before, after) in pairs {
      host.poke(0x10000, before)
      host.register(0)
      host.look(0)
      host.amend { $0.version = after }
    }
    return host.history
  }

  static let good: [(before: UInt32, after: UInt32)] = [
    (0, 2), (1, 4), (6, 8), (7, 10), (0xffff_fffe, 0), (0xffff_ffff, 2),
  ]

  @Test func theKernelsStepsHold() throws {
    try expectHolds("VERSION-STEP", Self.updates(Self.good))
  }

  @Test func severalUpdatesAddUp() throws {
    try expectHolds("VERSION-STEP", Self.updates(Self.good.map { ($0, $1 &+ 2 * 500) }))
  }

  @Test(arguments: [
    (0 as UInt32, 0 as UInt32, "2 after 0,"), (0, 1, "2 after 0,"), (10, 8, "2 after 10,"),
    (7, 8, "3 after 7,"), (7, 9, "3 after 7,"), (0xffff_fffe, 0xffff_fffe, "2 after 4294967294,"),
    (0xffff_ffff, 0, "3 after 4294967295,"),
  ])
  func anotherStepIsBroken(before: UInt32, after: UInt32, text: String) throws {
    try expectBroken("VERSION-STEP", Self.updates([(before, after)]), text, "version \(after)")
  }

  @Test func fiveUpdatesAreNotEnough() throws {
    try expectNotTested("VERSION-STEP", Self.updates(Array(Self.good.prefix(5))), "5", "6")
  }

  @Test func withoutAnOddVersionOrAWrapItIsNotTested() throws {
    for versions: [UInt32] in [[0, 2, 4, 6, 8, 0xffff_fffe], [0, 1, 2, 3, 4, 5]] {
      let steps = versions.map { ($0, $0 % 2 == 0 ? $0 &+ 2 : $0 &+ 3) }
      try expectNotTested("VERSION-STEP", Self.updates(steps), "odd", "wrap")
    }
  }

  @Test func onlyTheFirstLookAfterThePokeCounts() throws {
    var host = HistoryBuilder(.version)
    host.machine(0)
    for version: UInt32 in [0, 1, 2, 3, 4, 0xffff_ffff] {
      host.register(0)
      host.poke(0x10000, version)
      host.register(0)
      host.look(0)
      host.look(0)
      host.poke(0x20000, 9)
    }
    try expectHolds("VERSION-STEP", host.history)
  }

  // MARK: Whose update it is

  /// A loop also begins again where its vCPU left the guest in the middle of a reading.
  @Test func aReadingThatWasBegunAgainIsNoFault() throws {
    var host = HistoryBuilder(.hop)
    host.machine(0)
    host.register(0)
    host.sample(0) { $0.odd = 3 }
    #expect(try !judge("VERSION-EVEN", host.history).isBroken)
  }

  /// The other vCPU's entry may be updating the record that both have.
  @Test func aSharedRecordMayBeUnderWay() throws {
    var host = HistoryBuilder(.sharedPage)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id, at: 0x10000) }
    let reading = Reading(tsc: 5, page: ClockPage(version: 1, systemTime: 1))
    host.bracketed(.vcpu(1)) { _ in
      [.read(address: 0x10000, ring: 3, reading: reading, settled: false)]
    }
    #expect(try !judge("VERSION-EVEN", host.history).isBroken)
    host.register(0, at: 0x20000)
    host.bracketed(.vcpu(1)) { _ in
      [.read(address: 0x10000, ring: 3, reading: reading, settled: false)]
    }
    try expectBroken("VERSION-EVEN", host.history, "vcpu1's record", "version 1")
  }

  /// Nobody asked for an update, or another vCPU did.
  @Test func withoutAWriteOfTheMSRNoUpdateIsDue() throws {
    var host = HistoryBuilder(.version)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for version: UInt32 in [0, 1, 6, 7, 0xffff_fffe, 0xffff_ffff] {
      host.poke(0x10000, version)
      host.register(1)
      host.look(0)
      host.amend { $0.version = version }
    }
    try expectNotTested("VERSION-STEP", host.history, "saw 0")
  }

  @Test func anotherMachinesRecordIsNotThePlantedOne() throws {
    var host = HistoryBuilder(.version)
    host.machine(0)
    host.register(0)
    host.poke(0x10000, 100)
    host.machine(0)
    host.register(0)
    host.look(0)
    try expectNotTested("VERSION-STEP", host.history, "saw 0")
  }

  /// How many updates an entry makes is nobody's promise; 2^30 of them are too many to be told from a step back.
  @Test func aStepOfHalfTheNumbersIsBroken() throws {
    try expectBroken(
      "VERSION-STEP", Self.updates(Self.good + [(8, 8 + 1 << 31)]), "2 after 8,",
      "version \(8 + 1 << 31)")
  }
}
