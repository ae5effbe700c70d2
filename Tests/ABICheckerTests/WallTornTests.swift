import PVClock
import Testing

@testable import ABIChecker

/// WALL-NO-TORN.
@Suite struct WallTornTests {
  static let id = "WALL-NO-TORN"

  static func history(
    addresses: [UInt64] = [0x30100, 0x30ff8, 0x30ffc], rounds: Int = 80,
    _ change: (inout WallWatchResult) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.wallTorn)
    host.machine(0, 1)
    for address in addresses {
      host.fillWall(address - 64)
      host.watchWall(1, at: address, rounds: rounds, change) { host, round in
        host.setClock(UInt64(round + 1) * 3_600_000_000_000)
        host.hostWriteWall(0, at: address)
        host.lookAtWall(address, count: 12)
      }
    }
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func wholeRecordsHold(source: SimulatedTime.Source) throws {
    try expectHolds(Self.id, Script.history(of: .wallTorn, source: source))
  }

  @Test func readingsThatDifferUnderOneVersionAreBroken() throws {
    let history = Self.history {
      $0.torn = 3
      $0.tornPair = [WallClock(version: 8, seconds: 5), WallClock(version: 8, seconds: 6)]
    }.history
    try expectBroken(Self.id, history, "alike under one version", "3 torn", "sec 5", "sec 6")
  }

  /// New seconds beside the nanoseconds of the write before.
  @Test func fieldsOfTwoWritesAreBroken() throws {
    let history = Self.history {
      $0.records[9].nanoseconds = $0.records[8].nanoseconds &+ 1
    }.history
    try expectBroken(Self.id, history, "as the host read it", "nsec")
  }

  @Test func withTooFewVersionsItIsInconclusive() throws {
    try expectInconclusive(
      Self.id, Self.history { $0.records.removeLast($0.records.count - 6) }.history,
      "6 versions compared")
    try expectInconclusive(Self.id, Self.history { $0.reads = 4999 }.history, "4999 readings")
  }

  @Test func recordsWithinAPageAreNotEnough() throws {
    try expectNotTested(
      Self.id, Self.history(addresses: [0x30100, 0x30200, 0x30300]).history,
      "across a page boundary")
    try expectNotTested(Self.id, Self.history(rounds: 40).history, "saw 120 writes")
  }
}
