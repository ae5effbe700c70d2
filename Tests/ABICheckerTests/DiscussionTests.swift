import PVClock
import Testing

@testable import ABIChecker

/// What became of a guest of the discussion, on histories made by hand.
@Suite struct DiscussionTests {
  /// A VM that has been up for an hour; then what `guest` does.
  static func outcome(
    _ guest: DiscussionGuest, source: SimulatedTime.Source = .tsc,
    _ run: (inout HistoryBuilder) -> Void
  ) -> PolicyOutcome {
    var host = HistoryBuilder(.registration, source: source)
    host.machine(0, 1)
    host.setClock(DiscussionGuest.uptime)
    run(&host)
    return guest.outcome(of: host.history)
  }

  @Test func timeThatCarriesOnWorks() {
    let outcome = Self.outcome(.replug) { host in
      for id in [0, 1, 0, 1] { host.register(id) }
    }
    #expect(outcome == .works)
  }

  @Test func aStepBackIsTold() {
    let outcome = Self.outcome(.replug) { host in
      host.register(0)
      host.stepClock(by: -5_000_000)
      host.register(0)
    }
    guard case .wentBack(let by) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect((4_000_000...5_000_000).contains(by))
  }

  @Test func timeLostBeforeTheFirstReadingIsARestartUnlessTheGuestWantsIt() {
    func run(_ guest: DiscussionGuest) -> PolicyOutcome {
      Self.outcome(guest) { host in
        host.stepClock(by: -Int64(DiscussionGuest.uptime))
        for id in [0, 1] { host.register(id) }
      }
    }
    guard case .restarted(let by) = run(.oldMSR) else {
      Issue.record("not restarted")
      return
    }
    #expect(by > DiscussionGuest.uptime - 10_000_000)
    #expect(run(.optIn) == .works)
  }

  /// In 60 s the clock and CLOCK_MONOTONIC_RAW may come apart by 15 us.
  @Test(arguments: [(Int64(10_000), true), (40_000, false)])
  func whatTheTwoRatesMayComeApartByIsNoRestart(lost: Int64, works: Bool) {
    let outcome = Self.outcome(.oldMSR) { host in
      host.wait(milliseconds: 60_000)
      host.stepClock(by: -lost)
      for id in [0, 1] { host.register(id) }
    }
    guard !works else {
      #expect(outcome == .works)
      return
    }
    guard case .restarted(let by) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect((1...40_000).contains(by))
  }

  @Test func aClockThatIsBehindUnderflowsUnlessItIsGuarded() {
    func run(_ guest: DiscussionGuest) -> PolicyOutcome {
      Self.outcome(guest) { host in
        host.register(0)
        host.stepClock(by: -1_900_000)
        host.register(1)
      }
    }
    guard case .underflow = run(.behind) else {
      Issue.record("\(run(.behind))")
      return
    }
    #expect(run(.behindGuarded) == .works)
  }

  @Test func whoReadsTooLateOrNotAtAllShowsNothing() {
    let late = Self.outcome(.behind) { host in
      host.register(0)
      host.wait(milliseconds: 3)
      host.register(1)
    }
    guard case .notShown(let reason) = late else {
      Issue.record("\(late)")
      return
    }
    #expect(reason.contains("too late"))
    // It came before 2 ms had passed. What it reads is below vCPU 0's reading, but not by more than the record may run ahead.
    let slow = Self.outcome(.behind, source: .hpet) { host in
      host.register(0)
      host.bracket = 1_500_000
      host.stepClock(by: -2_000_000)
      host.register(1)
    }
    guard case .notShown = slow else {
      Issue.record("\(slow)")
      return
    }
    guard case .notShown = Self.outcome(.sles10, { _ in }) else {
      Issue.record("shown")
      return
    }
  }
}
