import PVClock
import Testing

@testable import ABIChecker

/// WALL-VALUE-EXACT.
@Suite struct WallExactTests {
  static let id = "WALL-VALUE-EXACT"

  static func records(
    source: SimulatedTime.Source = .tsc, knowsOffset: Bool = true,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.wallClock, source: source)
    host.machine(0, 1)
    host.bracket = 400
    for id in [0, 1] {
      host.noteOffset(id)
      host.register(id)
    }
    host.enter(0)
    fault(&host)
    for round in 0..<6 as Range<UInt64> {
      Script.wall(&host, Int(round % 2), at: 0x30100 + round * 64)
    }
    var history = host.history
    if !knowsOffset {
      history.events.removeAll { if case .tscOffset = $0.action { true } else { false } }
    }
    return history
  }

  @Test func aRecordOfOneInstantHolds() throws { try expectHolds(Self.id, Self.records()) }

  @Test(arguments: [20_000, -20_000] as [Int64])
  func anEpochThatIsOffIsBroken(error: Int64) throws {
    try expectBroken(
      Self.id, Self.records { $0.wall.error = error }, "sec * 10^9 + nsec at",
      error > 0 ? "too high" : "too low")
  }

  /// Before 6.7: broken, and not owed.
  @Test func readingsApartAreBrokenAndNotOwedByOldKernels() throws {
    var history = Self.records { $0.wall.readsApart = 30_000 }
    history.header.host.kernel = "6.1.0"
    let rule = try #require(Rule.named(Self.id))
    #expect(rule.verdict(on: [Timeline(history)]).status == .notOwed)
    history.header.host.kernel = "6.12.0"
    let verdict = rule.verdict(on: [Timeline(history)])
    #expect(verdict.status == .broken)
  }

  /// The known deviation is no larger than the write took.
  @Test func onlyAnErrorWithinTheWriteFitsTheDeviation() throws {
    for (history, isKnown) in [
      (Self.records { $0.wall.readsApart = 30_000 }, true),
      (Self.records { $0.wall.error = 1_000_000 }, false),
    ] {
      guard case .broken(let violations) = try judge(Self.id, history) else {
        Issue.record("not broken")
        continue
      }
      #expect(violations.allSatisfy { ($0.fitsDeviation == true) == isKnown })
    }
  }

  @Test func withoutTheMasterClockOrTheOffsetItIsNotTested() throws {
    try expectNotTested(Self.id, Self.records(source: .hpet), "no master clock")
    try expectNotTested(Self.id, Self.records(knowsOffset: false), "TSC offset")
  }

  /// What kernels are known to do excuses no clock but theirs.
  @Test func anotherClockHasNoKnownDeviations() throws {
    var history = Self.records { $0.wall.readsApart = 30_000 }
    history.header.host.kernel = "6.1.0"
    history.header.host.clock = "user-space model"
    let rule = try #require(Rule.named(Self.id))
    #expect(rule.verdict(on: [Timeline(history)]).known == nil)
  }
}
