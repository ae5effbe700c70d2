import PVClock
import Testing

@testable import ABIChecker

@Suite struct TSCWritesTests {
  typealias Steps = @Sendable (inout HistoryBuilder, _ updates: Bool) -> Void

  /// Rule, and a move that it is about: 2^50 cycles are 5 days.
  static let moves: [(rule: String, move: Steps)] = [
    ("TSCOFFSET-CONTINUES", { $0.setTSCOffset(0, 1 << 50 &+ $0.time.cycles, updates: $1) }),
    ("TSC-HOSTWRITE-CONTINUES", { $0.hostWriteTSC(0, 1 << 50, updates: $1) }),
    ("TSC-GUESTWRITE-CONTINUES", { $0.guestWriteTSC(0, MSR.tsc, 1 << 50, updates: $1) }),
    (
      "TSCADJ-GUESTWRITE-CONTINUES",
      { $0.guestWriteTSC(0, MSR.tscAdjust, $0.vcpus[0]!.tscAdjust &+ 1 << 50, updates: $1) }
    ),
    ("TSC-HOSTWRITE-CONTINUES-NONMASTER", { $0.setTSCOffset(0, 1 << 50, updates: $1) }),
    ("TSC-HOSTWRITE-CONTINUES-NONMASTER", { $0.hostWriteTSC(0, 1 << 50, updates: $1) }),
  ]

  static func history(
    _ index: Int, updates: Bool = true, works: Bool = true, times: Int = 3, bracket: UInt64 = 3000
  ) -> History {
    let (rule, move) = moves[index]
    var host = HistoryBuilder(source: rule.hasSuffix("NONMASTER") ? .hpet : .tsc)
    host.movesBetweenCPUs = false
    host.machine(0)
    host.register(0)
    host.bracket = bracket
    for _ in 0..<times {
      host.read(0)
      let before = host.vcpus[0]!
      move(&host, updates)
      if !works { host.vcpus[0] = before }
      host.enter(0)
      host.read(0)
      host.setTSCOffset(0, 77)
      host.register(0)
    }
    return host.history
  }

  @Test(arguments: moves.indices)
  func aClockThatCarriesOnHolds(at index: Int) throws {
    try expectHolds(Self.moves[index].rule, Self.history(index))
  }

  @Test(arguments: moves.indices)
  func aClockThatJumpsWithTheTSCIsBroken(at index: Int) throws {
    let history = Self.history(index, updates: false)
    try expectBroken(Self.moves[index].rule, history, "days", "which moved the guest's TSC")
  }

  @Test(arguments: moves.indices)
  func tooFewMovesAreNotTested(at index: Int) throws {
    try expectNotTested(Self.moves[index].rule, Self.history(index, times: 0))
  }

  /// A backend that takes the request and leaves the TSC as it is. A guest's reading in the same entry came too early to
  /// be changed here.
  @Test(arguments: [0, 1, 4, 5])
  func aMoveThatIsIgnoredIsNotTested(at index: Int) throws {
    try expectNotTested(
      Self.moves[index].rule, Self.history(index, works: false), "did not follow")
  }

  @Test(arguments: moves.indices)
  func wideBracketsAreInconclusive(at index: Int) throws {
    try expectInconclusive(Self.moves[index].rule, Self.history(index, bracket: 50_000_000))
  }

  @Test func withoutTheMasterClockAnotherRuleJudges() throws {
    for rule in ["TSCOFFSET-CONTINUES", "TSC-HOSTWRITE-CONTINUES"] {
      try expectNotTested(rule, Self.history(4), "master-clock mode")
    }
    try expectNotTested("TSC-HOSTWRITE-CONTINUES-NONMASTER", Self.history(0))
  }

  /// Both vCPUs are moved; vcpu1 enters first, then vcpu0, as far as `first` has them.
  static func together(updates: Bool, first: [Int] = [1, 0]) -> History {
    var host = HistoryBuilder()
    for id in first {
      host.machine(0, 1)
      for id in [0, 1, 0, 1] { host.register(id) }
      host.setTSCOffset(0, 1 << 50)
      host.setTSCOffset(1, 1 << 50, updates: updates)
      for id in [id, 1 - id] { host.read(id) }
    }
    return host.history
  }

  @Test func allVCPUsMovedBeforeTheFirstEntryHolds() throws {
    try expectHolds(
      "TSC-HOSTWRITE-CONTINUES-TOGETHER", Self.together(updates: true, first: [1, 0]))
  }

  /// vcpu0's entry would have made the record anew; vcpu1 comes first.
  @Test func theOneThatEntersFirstWithItsOldRecordIsBroken() throws {
    try expectBroken(
      "TSC-HOSTWRITE-CONTINUES-TOGETHER", Self.together(updates: false), "vcpu1", "days")
  }

  /// Where vcpu0 always enters first, nothing is seen of the one that KVM asks for no update on.
  @Test func withoutALaterOneThatEntersFirstItIsNotTested() throws {
    try expectNotTested(
      "TSC-HOSTWRITE-CONTINUES-TOGETHER", Self.together(updates: true, first: [0, 0]),
      "moved later and entered first")
  }

  /// A write of the system-time MSR makes a new record, even if the move did not.
  @Test func aRecordMadeByTheGuestsOwnWriteProvesNothing() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for cycles: UInt64 in [1 << 50, 1 << 51, 1 << 52, 1 << 53] {
      host.register(0)
      host.read(0)
      host.setTSCOffset(0, cycles, updates: false)
      host.register(0)
    }
    try expectNotTested("TSCOFFSET-CONTINUES", host.history, "saw 0")
  }

  @Test func oneOffsetAgainAndAgainIsNotAnyValue() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for _ in 0..<4 {
      host.register(0)
      host.read(0)
      host.setTSCOffset(0, 1 << 50)
      host.read(0)
    }
    try expectNotTested("TSCOFFSET-CONTINUES", host.history, "1 different TSC offsets")
  }

  /// A reading in a later entry says nothing of the next instruction.
  @Test(arguments: [2, 3]) func aReadingAfterAnExitIsNotEnough(index: Int) throws {
    var history = Self.history(index)
    for at in history.events.indices.dropFirst() {
      guard case .wroteMSR(let msr, _, _) = history.events[at - 1].action, MSR.movesTSC(msr),
        case .read = history.events[at].action
      else { continue }
      history.events[at - 1].ended.raw -= 1
      history.events[at].began.raw += 1
    }
    try expectNotTested(Self.moves[index].rule, history, "in the entry of the write")
  }

  /// The known deviation keeps the record of the old TSC. Any other error is another fault.
  @Test(arguments: moves.indices)
  func onlyAnErrorOfTheWholeMoveFitsTheDeviation(at index: Int) throws {
    func fits(_ history: History) throws -> Bool? {
      guard case .broken(let violations) = try judge(Self.moves[index].rule, history) else {
        return nil
      }
      return violations.allSatisfy { $0.fitsDeviation == true }
    }
    #expect(try fits(Self.history(index, updates: false)) == true)
    var host = HistoryBuilder(source: Self.moves[index].rule.hasSuffix("NONMASTER") ? .hpet : .tsc)
    host.machine(0)
    host.register(0)
    host.read(0)
    host.stepClock(by: 5_000_000_000)
    Self.moves[index].move(&host, true)
    host.read(0)
    #expect(try fits(host.history) == false)
  }

  @Test func oneMoveAloneIsNotTogether() throws {
    try expectNotTested("TSC-HOSTWRITE-CONTINUES-TOGETHER", Self.history(0))
  }

  /// Which of two moves made the clock jump nobody can tell.
  @Test func aMoveUponAMoveIsNotJudged() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for _ in 0..<4 {
      host.register(0)
      host.guestWriteTSC(0, MSR.tsc, 1 << 55, updates: false)
      host.setTSCOffset(0, 1 << 50, updates: false)
      host.read(0)
    }
    try expectNotTested("TSCOFFSET-CONTINUES", host.history)
  }
}

@Suite struct TSCAdjustByHostTests {
  static let rule = "TSCADJ-HOSTWRITE-NOMOVE"

  static func history(
    moves: Bool = false, _ change: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder()
    host.machine(0)
    for round in 0..<4 {
      host.register(0)
      host.read(0)
      host.hostWriteAdjust(0, UInt64(round + 1) << 45, moves: moves)
      change(&host)
      host.enter(0)
      host.read(0)
    }
    return host.history
  }

  @Test func aTSCThatRunsOnHolds() throws { try expectHolds(Self.rule, Self.history()) }

  @Test func aTSCThatMovesIsBroken() throws {
    try expectBroken(
      Self.rule, Self.history(moves: true), "0x200000000000", "351843", "IA32_TSC_ADJUST")
  }

  @Test func aClockThatMovesIsBroken() throws {
    try expectBroken(
      Self.rule, Self.history { $0.stepClock(by: 3_600_000_000_000) }, "1.0 h", "too high")
  }

  @Test func aWriteThatIsLostIsBroken() throws {
    var history = Self.history()
    for index in history.events.indices {
      if case .hostReadMSR(let vcpu, let msr, _) = history.events[index].action {
        history.events[index].action = .hostReadMSR(vcpu: vcpu, msr: msr, value: 0)
      }
    }
    try expectBroken(Self.rule, history, "to read back as 0x", "0x0")
  }

  // MARK: TSC-EVERY-WAY-MOVES

  static let ways = "TSC-EVERY-WAY-MOVES"

  private static func host(
    _ first: @escaping (inout HistoryBuilder) -> Void,
    then rest: @escaping (inout HistoryBuilder) -> Void
  ) -> History {
    var host = HistoryBuilder(.tscWays)
    host.machine(0)
    for act in [first, rest] {
      Script.renew(&host, 0)
      act(&host)
      Script.enterAndRead(&host, 0)
    }
    return host.history
  }

  @Test func aWayThatDoesNothingWhereAnotherMovesIsBroken() throws {
    let history = Self.host(
      { $0.hostWriteTSC(0, 1 << 50) }, then: { $0.setTSCOffset(0, 1 << 45, takesEffect: false) })
    try expectBroken(
      Self.ways, history, "a TSC that follows when KVM_VCPU_TSC_OFFSET was set to",
      "the guest's TSC did not follow")
  }

  /// A second beside where it was set to, on either side: it moved, and not by what was asked for.
  @Test(arguments: [1 << 31, 0 &- 1 << 31] as [UInt64])
  func anOffsetThatIsNotTheOneSetIsBroken(error: UInt64) throws {
    let history = Self.host(
      { $0.hostWriteTSC(0, 1 << 50) },
      then: {
        $0.setTSCOffset(0, 1 << 45)
        $0.vcpus[0]?.tscOffset &+= error
      })
    try expectBroken(Self.ways, history, "a TSC that follows when KVM_VCPU_TSC_OFFSET was set to")
  }

  @Test func aHostThatMovesNoTSCIsNotJudged() throws {
    let history = Self.host(
      { $0.setTSCOffset(0, 1 << 44, takesEffect: false) },
      then: { $0.setTSCOffset(0, 1 << 45, takesEffect: false) })
    try expectNotTested(Self.ways, history, "no way moves the guest's TSC")
  }

  @Test func eachWayIsNeeded() throws {
    let history = Self.host({ $0.hostWriteTSC(0, 1 << 50) }, then: { $0.setTSCOffset(0, 1 << 45) })
    try expectNotTested(Self.ways, history, "IA32_TSC by the guest")
  }
}
