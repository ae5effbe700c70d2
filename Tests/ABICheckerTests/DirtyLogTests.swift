import Testing

@testable import ABIChecker

@Suite struct DirtyLogTests {
  static func logged(
    _ fault: SimulatedMemory.Fault? = nil, flags: UInt64 = 1, hasManualLog: Bool = true
  ) -> History {
    MemoryTests.history(.dirtyLog, fault) { host in
      host.setSlot(1, at: 0x1000_0000, 1)
      host.register(0, at: 0x1000_1000)
      host.setSlot(1, at: 0x1000_0000, 1, flags: flags)
      for round in 0..<4 {
        // From then on the registration is younger than the log.
        if round == 2 { host.register(0, at: 0x1000_1000) }
        let isManual = round % 2 == 1 && hasManualLog
        host.dirtyLog(1, isManual: isManual)
        host.update()
        host.dirtyLog(1, isManual: isManual)
        host.compare()
        host.tellStopped(0)
        host.enter(0)
        host.compare()
        host.dirtyLog(1, isManual: isManual)
        host.compare()
        if round == 3 { host.register(0, at: 0x1000_1000) }
        host.requestWall(
          0, at: 0x1000_2ffc, msr: round % 2 == 0 ? MSR.wallClock : MSR.wallClockOld)
        host.compare()
      }
      host.dirtyLog(1, isManual: hasManualLog)
    }
  }

  @Test(arguments: ["DIRTY-LOG-PVCLOCK", "DIRTY-LOG-WALL"])
  func whatTheHostWroteIsInTheLog(id: String) throws {
    try expectHolds(id, Self.logged())
    let page = id == "DIRTY-LOG-WALL" ? 3 : 1
    try expectBroken(id, Self.logged(.doesNotLog), "page \(page) of slot 1", "pages []")
    try expectNotTested(id, Self.logged(flags: 0))
    try expectNotTested(id, Self.logged(hasManualLog: false), "did not see KVM_CLEAR_DIRTY_LOG")
  }

  @Test func eachSidesLogIsItsOwn() throws {
    var history = Self.logged()
    for at in history.events.indices {
      switch history.events[at].action {
      case .dirtyLog(let slot, let pages):
        history.events[at].action = .dirtyLog(slot: slot, pages: pages.filter { $0 != 3 })
      case .dirtyLogCleared(let slot, let pages):
        history.events[at].action = .dirtyLogCleared(slot: slot, pages: pages.filter { $0 != 3 })
      default: break
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

@Suite struct DirtyRingTests {
  static let id = "DIRTYRING-MARKS-RECORD"

  /// What the script leaves, without the pages that `isNamed` denies.
  static func history(_ isNamed: (NamedPage, _ harvest: Int) -> Bool) -> History {
    var history = Script.history(of: .dirtyRing)
    var harvest = 0
    for at in history.events.indices {
      if case .dirtyRings(let pages) = history.events[at].action {
        history.events[at].action = .dirtyRings(pages: pages.filter { isNamed($0, harvest) })
        harvest += 1
      }
    }
    return history
  }

  @Test func whatTheHostWroteIsInARing() throws {
    try expectHolds(Self.id, Script.history(of: .dirtyRing))
    // Which ring is left open, and whether it is one at all.
    for vcpu in [nil, 1] {
      var history = Script.history(of: .dirtyRing)
      for at in history.events.indices {
        if case .dirtyRings(let pages) = history.events[at].action {
          history.events[at].action = .dirtyRings(
            pages: pages.map { NamedPage(vcpu: vcpu, slot: $0.slot, page: $0.page) })
        }
      }
      try expectHolds(Self.id, history)
    }
  }

  @Test func aRecordInNoRingIsBroken() throws {
    try expectBroken(
      Self.id, Self.history { page, _ in page.slot != 2 || page.page > 1 },
      "page 0 of slot 2, in which a record was written, in a dirty ring", "pages []")
  }

  @Test func aWallClockInNoRingIsBroken() throws {
    try expectBroken(
      Self.id, Self.history { page, _ in page.page != 3 }, "page 3 of slot 1", "pages []")
  }

  /// The ring names a page the first time only, as if it had not been reset.
  @Test func aPageThatIsNotNamedAgainIsBroken() throws {
    var seen: Set<NamedPage> = []
    let history = Self.history { page, _ in seen.insert(page).inserted }
    try expectBroken(Self.id, history, "in a dirty ring", "pages []")
  }

  /// Harvest 10 comes after the clock was set for the second time, when both records are elsewhere.
  @Test func anotherSlotsPageIsNoSubstitute() throws {
    let history = Self.history { page, harvest in harvest != 10 || page.slot == 1 }
    try expectBroken(Self.id, history, "page 0 of slot 2", "pages []")
  }

  @Test func anotherPageIsNoSubstitute() throws {
    var history = Script.history(of: .dirtyRing)
    for at in history.events.indices {
      if case .dirtyRings(let pages) = history.events[at].action {
        history.events[at].action = .dirtyRings(
          pages: pages.map { NamedPage(vcpu: $0.vcpu, slot: $0.slot, page: $0.page + 0x10000) })
      }
    }
    try expectBroken(Self.id, history, "page 0 of slot 1", "pages [65536]")
  }

  @Test func everyKindOfWriteIsNeeded() throws {
    var history = Script.history(of: .dirtyRing)
    history.events.removeAll {
      if case .toldStopped = $0.action { true } else { false }
    }
    try expectNotTested(Self.id, history, "did not see KVM_KVMCLOCK_CTRL")
    var host = HistoryBuilder(.dirtyRing)
    host.machineInMemory()
    host.host(.lacking(what: "a dirty ring", evidence: "KVM_ENABLE_CAP failed with EINVAL"))
    try expectNotTested(Self.id, host.history, "KVM_ENABLE_CAP failed with EINVAL")
  }
}
