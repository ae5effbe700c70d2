import Testing

@testable import ABIChecker

@Suite struct DirtyLogTests {
  static func logged(_ fault: SimulatedMemory.Fault? = nil, flags: UInt64 = 1) -> History {
    MemoryTests.history(.dirtyLog, fault) { host in
      host.setSlot(1, at: 0x1000_0000, 1)
      host.register(0, at: 0x1000_1000)
      host.setSlot(1, at: 0x1000_0000, 1, flags: flags)
      for round in 0..<4 {
        // From then on the registration is younger than the log.
        if round == 2 { host.register(0, at: 0x1000_1000) }
        host.dirtyLog(1)
        host.update()
        host.dirtyLog(1)
        host.compare()
        host.requestWall(
          0, at: 0x1000_2ffc, msr: round % 2 == 0 ? MSR.wallClock : MSR.wallClockOld)
        host.compare()
      }
      host.dirtyLog(1)
    }
  }

  @Test(arguments: ["DIRTY-LOG-PVCLOCK", "DIRTY-LOG-WALL"])
  func whatTheHostWroteIsInTheLog(id: String) throws {
    try expectHolds(id, Self.logged())
    let page = id == "DIRTY-LOG-WALL" ? 3 : 1
    try expectBroken(id, Self.logged(.doesNotLog), "page \(page) of slot 1", "pages []")
    try expectNotTested(id, Self.logged(flags: 0))
  }

  @Test func eachSidesLogIsItsOwn() throws {
    var history = Self.logged()
    for at in history.events.indices {
      if case .dirtyLog(let slot, let pages) = history.events[at].action {
        history.events[at].action = .dirtyLog(slot: slot, pages: pages.filter { $0 != 3 })
      }
    }
    try expectHolds("DIRTY-LOG-PVCLOCK", history)
    try expectBroken("DIRTY-LOG-WALL", history, "page 3 of slot 1", "pages [2]")
  }

  /// Logging began before each registration, and the wall clock was asked for through one MSR.
  @Test func bothOrdersAndBothMSRsAreNeededInTheLog() throws {
    let history = MemoryTests.history(.dirtyLog) { host in
      host.setSlot(1, at: 0x1000_0000, 1, flags: 1)
      host.register(0, at: 0x1000_1000)
      for _ in 0..<4 {
        host.dirtyLog(1)
        host.update()
        host.dirtyLog(1)
        host.compare()
        host.requestWall(0, at: 0x1000_2ffc)
        host.compare()
      }
      host.dirtyLog(1)
    }
    try expectNotTested("DIRTY-LOG-PVCLOCK", history, "did not see after")
    try expectNotTested("DIRTY-LOG-WALL", history, "did not see 0x11")
  }
}
