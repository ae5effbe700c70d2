import PVClock
import Testing

@testable import ABIChecker

@Suite struct TornTests {
  static let hour: UInt64 = 3_600_000_000_000

  static func race(
    rounds: Int = 210, source: SimulatedTime.Source = .tsc,
    _ change: (inout WatchResult) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.torn, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.watch(1, of: 0, rounds: rounds, change) { host, round in
      host.setClock(UInt64(round + 1) * hour)
      host.enter(0)
      host.look(0)
    }
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func whatEachUpdateWroteHolds(source: SimulatedTime.Source) throws {
    for id in ["VERSION-NO-TORN", "VERSION-MONO"] {
      try expectHolds(id, Self.race(source: source).history)
    }
  }

  @Test func readingsThatDifferUnderOneVersionAreBroken() throws {
    let pair = [ClockPage(version: 8, systemTime: 1), ClockPage(version: 8, systemTime: 7_777)]
    let history = Self.race { ($0.torn, $0.tornPair) = (3, pair) }.history
    try expectBroken("VERSION-NO-TORN", history, "3 torn", "version 8", "system_time 7777")
  }

  /// The new system_time beside the old tsc_timestamp.
  @Test func fieldsOfTwoUpdatesAreBroken() throws {
    var mixed: UInt64 = 0
    let history = Self.race {
      $0.stretches[9].page.tscTimestamp = $0.stretches[8].page.tscTimestamp
      mixed = $0.stretches[9].page.tscTimestamp
    }.history
    try expectBroken("VERSION-NO-TORN", history, "as the host read it", "tsc_timestamp \(mixed)")
  }

  @Test func tooLittleWorkIsInconclusive() throws {
    try expectInconclusive("VERSION-NO-TORN", Self.race(rounds: 199).history, "199 updates")
    try expectInconclusive(
      "VERSION-NO-TORN", Self.race { $0.reads = 9_999 }.history, "9999 readings", "needs")
    let few = Self.race { $0.stretches.removeSubrange(19...) }
    try expectInconclusive("VERSION-NO-TORN", few.history, "19 versions")
    try expectInconclusive("VERSION-MONO", few.history, "19 versions")
  }

  @Test func onOneCPUItIsNotTested() throws {
    var host = Self.race { $0.stretches.removeSubrange(2...) }
    host.host(.lacking(what: "two CPUs to run on", evidence: "sched_getaffinity allows [0]"))
    try expectNotTested("VERSION-NO-TORN", host.history, "allows [0]", "2 versions")
    try expectNotTested("VERSION-MONO", host.history, "allows [0]")
  }

  @Test func aVersionThatGoesBackIsBroken() throws {
    let inLoop = Self.race { $0.stretches[5].page.version = $0.stretches[4].page.version - 2 }
    try expectBroken("VERSION-MONO", inLoop.history, "a version above", "modulo 2^32")
    var host = Self.race()
    host.look(0)
    host.amend { $0.version = 4 }
    try expectBroken("VERSION-MONO", host.history, "version 4")
  }

  @Test func aVersionMayWrap() throws {
    let history = Self.race {
      for at in $0.stretches.indices {
        $0.stretches[at].page.version = UInt32.max &- 100 &+ UInt32(at * 2)
      }
    }.history
    try expectHolds("VERSION-MONO", history)
  }

  /// The trace was full: its last stretch is not the neighbour of the one before.
  @Test func droppedStretchesAreNotCompared() throws {
    let history = Self.race {
      $0.dropped = 7
      let first = $0.stretches[0].page.version
      $0.stretches[$0.stretches.count - 1].page.version = first &- 2
    }.history
    #expect(try !judge("VERSION-MONO", history).isBroken)
  }

  @Test func withoutAReaderNothingIsShown() throws {
    var history = Self.race().history
    history.events.removeAll { if case .watched = $0.action { true } else { false } }
    for id in ["VERSION-NO-TORN", "VERSION-MONO"] {
      try expectNotTested(id, history, "readers without pause")
    }
  }

  /// The host itself reads two records under one version.
  @Test func anUpdateThatLeavesTheVersionIsBroken() throws {
    var host = Self.race()
    host.look(0)
    host.amend { $0.systemTime += 1 }
    try expectBroken("VERSION-NO-TORN", host.history, "as it was read before")
    // After the guest wrote there, the version says nothing.
    var other = Self.race()
    other.host(.poked(address: 0x1001c, value: 0))
    other.look(0)
    other.amend { $0.flags = [] }
    #expect(try !judge("VERSION-NO-TORN", other.history).isBroken)
  }

  @Test func aVersionInOtherMemoryIsAnother() throws {
    var host = Self.race()
    host.setSlot(1, at: 0x1000_0000, 1)
    host.look(0)
    host.amend { $0.version = 2 }
    try expectHolds("VERSION-MONO", host.history)
  }
}
