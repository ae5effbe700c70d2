import PVClock
import Testing

@testable import ABIChecker

// A VMM that stops a guest, moves it, resets it or plugs a vCPU.

extension VMMRulesTests {
  // MARK: Pause

  /// A guest that is paused as often as there are steps, by which its clock goes ahead of one that stands still.
  private func pauses(_ steps: [Int64], declared: ClockPolicy? = nil, milliseconds: UInt64 = 300)
    -> History
  {
    guest(.vmmPause) { host in
      if let declared { host.host(.declared(over: .pause, clock: declared)) }
      for step in steps {
        host.answer()
        host.stopped { $0.wait(milliseconds: milliseconds) }
        host.stepClock(by: step)
        host.answer(told: true)
      }
    }
  }

  @Test func aClockOverAPause() throws {
    let id = "PAUSE-CLOCK"
    let runsOn: Int64 = 300_006_000
    for steps in [[0, 0], [runsOn, runsOn]] { try expectHolds(id, pauses(steps)) }
    try expectHolds(id, pauses([0, 0], declared: .standsStill))
    try expectHolds(id, pauses([runsOn, runsOn], declared: .runsOn))
    try expectBroken(id, pauses([0, 0], declared: .runsOn), "it counts the stop, as is declared")
    try expectBroken(
      id, pauses([runsOn, runsOn], declared: .standsStill), "it stands still, as is declared")
    try expectBroken(id, pauses([0, runsOn]), "it stands still, as before")
    try expectBroken(id, pauses([runsOn, 0]), "it counts the stop, as before")
    try expectBroken(id, pauses([runsOn / 2]), "if it stands still, or", "if it runs on")
    try expectBroken(id, pauses([runsOn + Self.second]), "if it runs on")
    try expectBroken(id, pauses([-Self.second / 20]), "if it stands still")
    // Too short to tell one from the other.
    #expect(try !judge(id, pauses([0, 0], milliseconds: 0)).holds)
    try expectNotTested(id, guest(.vmmPause), "advances over a pause")
  }

  /// The second pause of a paused guest takes the clock anew.
  @Test func aClockOverAPauseOfAPausedGuest() throws {
    func twice(counted: Int64) -> History {
      guest(.vmmPause) { host in
        host.stopped {
          $0.wait(milliseconds: 150)
          $0.vmm(.pause)
          $0.wait(milliseconds: 150)
        }
        host.stepClock(by: counted)
        host.answer(told: true)
      }
    }
    try expectHolds("PAUSE-CLOCK", twice(counted: 0))
    try expectBroken("PAUSE-CLOCK", twice(counted: 150_003_000), "if it stands still, or")
  }

  @Test(arguments: [0, 1])
  func aVCPUThatIsNotToldOfAPause(vcpu: Int) throws {
    let id = "PAUSE-TELLS-GUEST"
    func paused(_ change: (inout HistoryBuilder) -> Void) -> History {
      guest(.vmmPause) { host in
        host.stopped { $0.wait(milliseconds: 300) }
        host.answer(told: true)
        change(&host)
      }
    }
    try expectHolds(id, paused { _ in })
    try expectBroken(
      id, paused { $0.amendPages(of: vcpu) { $0.flags.remove(.guestStopped) } },
      "PVCLOCK_GUEST_STOPPED set in vcpu\(vcpu)'s record", "flags 0x1")
    // The guest has cleared it by itself since.
    try expectHolds(
      id, paused { $0.amendAnswer(of: vcpu) { $0.last.page.flags.remove(.guestStopped) } })
    try expectNotTested(id, guest(.vmmPause), "paused vCPUs")
  }

  // MARK: Save and restore

  /// Each restore of a guest that is saved 100 ms after its pause, and restored 300 ms later: `saved` is by how much the clock goes ahead
  /// of one that stands still all the time, and `paused` the same of a plain pause before.
  private func restores(
    _ saved: [Int64], paused: Int64? = 0, declared: ClockPolicy? = nil, told: Bool = true,
    twice: Bool = false
  ) -> History {
    guest(.vmmSnapshot) { host in
      if let declared { host.host(.declared(over: .restore, clock: declared)) }
      if let paused {
        host.stopped { $0.wait(milliseconds: 300) }
        host.stepClock(by: paused)
        host.answer(told: true)
      }
      for (index, step) in saved.enumerated() {
        host.answer()
        host.stopped {
          $0.wait(milliseconds: 100)
          $0.vmm(.save, other: index)
          $0.wait(milliseconds: 300)
          $0.vmm(.restore, other: index)
        }
        host.stepClock(by: step)
        host.answer(told: told)
      }
    }
  }

  private static let (held, gap, pause): (Int64, Int64, Int64) = (
    100_006_000, 300_009_000, 300_006_000
  )

  @Test func aClockFromASaveToTheRestore() throws {
    let id = "SNAPSHOT-CLOCK"
    let (held, gap, pause) = (Self.held, Self.gap, Self.pause)
    try expectHolds(id, restores([0, 0]))
    try expectHolds(id, restores([gap, gap]))
    try expectHolds(id, restores([0, 0], declared: .standsStill))
    try expectBroken(id, restores([0, 0], declared: .runsOn), "it counts the stop, as is declared")
    try expectBroken(id, restores([0, gap]), "it stands still, as before")
    try expectBroken(id, restores([gap / 2]), "if it stands still, or")
    try expectBroken(id, restores([-Self.second]), "if it stands still, or")
    // Where it runs on in a pause, it does so up to the save, too.
    try expectHolds(id, restores([held, held], paused: pause))
    try expectHolds(id, restores([400_010_000, 400_010_000], paused: pause))
    try expectBroken(id, restores([0], paused: pause), "if it stands still, or")
    // Where it stands still in a pause, a save that takes it later has it run on until then.
    try expectBroken(id, restores([held]), "if it stands still, or")
    // Nobody knows what it does in a pause.
    try expectHolds(id, restores([0, 0], paused: nil))
    try expectHolds(id, restores([held, held], paused: nil))
    try expectNotTested(id, guest(.vmmSnapshot), "advances from save to restore")
  }

  @Test func aVCPUThatIsNotToldOfARestore() throws {
    let id = "SNAPSHOT-TELLS-GUEST"
    try expectHolds(id, restores([0]))
    try expectBroken(id, restores([0], told: false), "vcpu0", "vcpu1", "flags 0x1")
    try expectNotTested(id, restores([]), "restored vCPUs")
  }

  @Test func clockAndTSCThatComeApart() throws {
    let outcome = try judge("SNAPSHOT-CLOCK-AND-TSC", restores([0]))
    #expect("\(outcome)".contains("the clock fell behind the TSC by 400"), "\(outcome)")
    try expectNotTested("SNAPSHOT-CLOCK-AND-TSC", restores([]))
  }

  // MARK: Migration

  private func migrates(_ step: Int64, told: [Int] = [0, 1]) -> History {
    guest(.vmmMigration) { host in
      host.answer()
      host.vmm(.migrate)
      host.stepClock(by: step)
      host.answer(told: true)
      for id in [0, 1] where !told.contains(id) {
        host.amendPages(of: id) { $0.flags.remove(.guestStopped) }
      }
    }
  }

  @Test func aClockOverAMigration() throws {
    let id = "MIGRATE-CLOCK"
    try expectHolds(id, migrates(0))
    try expectBroken(id, migrates(10 * Self.second), "too high")
    try expectBroken(id, migrates(-Self.second / 20), "too low")
    try expectNotTested(id, guest(.vmmMigration), "advances over a migration")
  }

  /// The 300 ms of a pause on the way may count, once.
  @Test func aClockOverAPausedMigration() throws {
    func paused(_ step: Int64) -> History {
      guest(.vmmMigration) { host in
        host.stopped {
          $0.vmm(.migrate)
          $0.wait(milliseconds: 300)
        }
        host.stepClock(by: step)
        host.answer(told: true)
      }
    }
    for step in [0, Self.pause / 2, Self.pause] { try expectHolds("MIGRATE-CLOCK", paused(step)) }
    try expectBroken("MIGRATE-CLOCK", paused(2 * Self.pause), "too high")
  }

  @Test(arguments: [
    ([0, 1], "every vCPU is told"), ([1], "only vcpu1 is told"), ([], "no vCPU is told"),
  ])
  func whoIsToldOfAMigration(told: [Int], words: String) throws {
    let outcome = try judge("MIGRATE-TELLS-GUEST", migrates(0, told: told))
    #expect("\(outcome)".contains(words), "\(outcome)")
    try expectNotTested("MIGRATE-TELLS-GUEST", guest(.vmmMigration))
  }

  // MARK: What leaves the clock alone

  private func leavesAlone(
    _ id: String, _ scenario: ScenarioName, _ verb: VMMVerb, failure: VMMFailure? = nil,
    plugs: Int = 0
  ) throws {
    func after(_ step: Int64) -> History {
      guest(scenario) { host in
        for _ in 0..<plugs {
          host.answer()
          host.vmm(.plug)
          host.answer()
          host.vmm(.unplug)
        }
        host.answer()
        host.vmm(verb, failure: failure)
        host.stepClock(by: step)
        host.answer()
      }
    }
    try expectHolds(id, after(0))
    try expectBroken(id, after(5 * Self.second), "too high")
    try expectBroken(id, after(-Self.second / 20), "too low")
    try expectNotTested(id, guest(scenario), "advances")
  }

  @Test func aClockThatAFailedMigrationSets() throws {
    try leavesAlone(
      "MIGRATE-FAILED-KEEPS-TIME", .vmmMigration, .migrate, failure: .refused(reason: "nobody"))
    // One that is done is no such case.
    try expectNotTested("MIGRATE-FAILED-KEEPS-TIME", migrates(0), "advances")
  }

  @Test func aClockThatAResetSets() throws {
    try leavesAlone("RESET-KEEPS-TIME", .vmmReset, .reset)
  }

  @Test(arguments: [VMMVerb.plug, .unplug])
  func aClockThatAPlugSets(verb: VMMVerb) throws {
    try leavesAlone("PLUG-KEEPS-TIME", .vmmHotplug, verb)
  }

  @Test func aClockThatASecondPlugSets() throws {
    try leavesAlone("REPLUG-KEEPS-TIME", .vmmHotplug, .plug, plugs: 1)
    let once = guest(.vmmHotplug) { host in
      host.vmm(.plug)
      host.answer()
    }
    try expectNotTested("REPLUG-KEEPS-TIME", once, "advances")
  }

  @Test(arguments: [(2_000_000, "too high"), (-2_000_000, "too low")])
  func aPluggedVCPUWithAClockOfItsOwn(by nanoseconds: Int64, words: String) throws {
    let id = "PLUG-ONE-CLOCK"
    func plugged(_ nanoseconds: Int64) -> History {
      guest(.vmmHotplug) { host in
        host.vmm(.plug)
        host.createVCPU(2)
        host.startAgain(2)
        host.answer([0, 1, 2])
        host.answer([0, 1, 2])
        host.amendPages(of: 2) { $0.systemTime &+= UInt64(bitPattern: nanoseconds) }
      }
    }
    try expectHolds(id, plugged(0))
    try expectBroken(id, plugged(nanoseconds), "vcpu2's clock less vcpu0's", words)
    try expectNotTested(id, guest(.vmmHotplug) { $0.answer() }, "answers of plugged vCPUs")
  }

  @Test(arguments: [(0, "none, to"), (5, "or more ahead"), (-5, "or more behind")])
  func aWallClockThatIsOff(by seconds: Int64, words: String) throws {
    func wall(_ seconds: Int64) -> History {
      guest { host in
        let clock = Int64(host.reading(on: 0).value)
        let start: Int64 = 1_700_000_000_000_000_000
        let time = start - clock + seconds * Self.second
        host.host(.hostClock(name: "CLOCK_REALTIME", nanoseconds: UInt64(start - 1_000_000)))
        host.answer(
          wall: WallClock(
            version: 2, seconds: UInt32(time / Self.second), nanoseconds: UInt32(time % Self.second)
          ))
        host.host(.hostClock(name: "CLOCK_REALTIME", nanoseconds: UInt64(start + 1_000_000)))
      }
    }
    let outcome = try judge("VMM-WALL-CLOCK", wall(seconds))
    #expect("\(outcome)".contains(words), "\(outcome)")
    try expectNotTested("VMM-WALL-CLOCK", guest())
  }
}
