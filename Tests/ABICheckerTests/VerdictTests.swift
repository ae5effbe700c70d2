import PVClock
import Testing

@testable import ABIChecker

@Suite struct OutcomeTests {
  static let holds = Outcome.holds(evidence: "h")
  static let wide = Outcome.inconclusive(reason: "w")
  static let absent = Outcome.notTested(reason: "a")

  static func broken(_ numbers: Int...) -> Outcome {
    .broken(violations: numbers.map { Violation(expected: "e", seen: "s", events: [$0]) })
  }

  struct Row: Sendable {
    var outcomes: [Outcome]
    var attempts: Outcome
    var scenarios: Outcome
  }

  @Test(arguments: [
    Row(outcomes: [holds], attempts: holds, scenarios: holds),
    Row(outcomes: [wide, holds], attempts: holds, scenarios: wide),
    Row(outcomes: [holds, wide], attempts: holds, scenarios: wide),
    Row(outcomes: [holds, absent], attempts: holds, scenarios: holds),
    Row(outcomes: [absent, wide], attempts: wide, scenarios: wide),
    Row(outcomes: [absent, absent], attempts: absent, scenarios: absent),
    Row(outcomes: [holds, broken(1)], attempts: broken(1), scenarios: broken(1)),
    Row(
      outcomes: [broken(1), wide, broken(2, 3)], attempts: broken(1, 2, 3),
      scenarios: broken(1, 2, 3)),
  ])
  func retriesAndScenariosMergeInTheirOwnWay(row: Row) {
    #expect(Outcome.ofAttempts(row.outcomes) == row.attempts)
    #expect(Outcome.ofScenarios(row.outcomes) == row.scenarios)
  }

  @Test func noOutcomeIsNotTested() {
    #expect(Outcome.ofAttempts([]).isNotTested)
    #expect(Outcome.ofScenarios([]).isNotTested)
  }

  @Test func anOutcomeKnowsItsKind() {
    #expect(Self.broken(1).isBroken && !Self.holds.isBroken && !Self.wide.isBroken)
    #expect(Self.wide.isInconclusive && !Self.absent.isInconclusive)
  }
}

@Suite struct OutdatedDeviationTests {
  /// One that shows in every run, and one that shows under a condition.
  @Test(arguments: [("SYSTIME-CROSSPAGE-SERVED", true), ("RATE-RAW", false)])
  func oneThatShouldShowAndDoesNotIsTold(rule: String, always: Bool) throws {
    let entry = try #require(KnownDeviation.of(rule: rule, kernel: "6.1.0"))
    #expect(entry.always == always)
    func named(_ outcome: Outcome) -> KnownDeviation? {
      KnownDeviation.of(rule: rule, kernel: "6.1.0", outcome)
    }
    #expect(named(.broken(violations: [])) == entry)
    #expect(named(.holds(evidence: "")) == (always ? entry : nil))
    #expect(named(.notTested(reason: "")) == nil && named(.inconclusive(reason: "")) == nil)
    #expect(KnownDeviation.of(rule: rule, kernel: "4.19.0", .holds(evidence: "")) == nil)
  }
}

@Suite struct VerdictTests {
  static let rule = Rule.named("VERSION-EVEN")!

  /// A history of `scenario` with so many records, one of them odd if `isBroken`.
  static func timeline(_ scenario: ScenarioName, records: Int = 2, isBroken: Bool = false)
    -> Timeline
  {
    var host = HistoryBuilder(scenario)
    host.machine(0)
    for _ in 0..<records { host.register(0) }
    if isBroken { host.amend { $0.version = 3 } }
    return Timeline(host.history)
  }

  @Test func aRetryThatCouldTellDecides() {
    let verdict = Self.rule.verdict(on: [
      Self.timeline(.version, records: 0), Self.timeline(.version), Self.timeline(.registration),
    ])
    #expect(verdict.outcome.holds && verdict.scenario == "version" && verdict.known == nil)
  }

  @Test func aScenarioThatDoesNotExerciseTheRuleCanOnlyBreakIt() {
    let quiet = Self.rule.verdict(on: [Self.timeline(.storm)])
    #expect(quiet.outcome.isNotTested)
    let verdict = Self.rule.verdict(on: [
      Self.timeline(.registration), Self.timeline(.storm, isBroken: true),
    ])
    #expect(verdict.outcome.isBroken && verdict.scenario == "storm")
  }

  @Test func aRuleOfOneScenarioIgnoresTheOthers() throws {
    let rule = try #require(Rule.named("SYSTIME-ENABLE"))
    var host = HistoryBuilder(.storm)
    host.events = RegistrationTests.enabled { $0.version = 3 }.events
    #expect(rule.judge(host.history).isBroken)
    #expect(rule.verdict(on: [Timeline(host.history)]).outcome.isNotTested)
  }

  @Test func withoutADecisionTheFirstScenarioIsNamed() {
    #expect(Self.rule.verdict(on: []).scenario == "registration")
  }

  @Test func aBrokenRuleOfAnOldKernelIsKnown() throws {
    let rule = try #require(Rule.named("RATE-RAW"))
    for (kernel, isKnown) in [("5.10.223-amd64", true), ("6.12.117", false), ("", false)] {
      var history = Script.history(of: .rate)
      let last = try #require(
        history.events.lastIndex { if case .getClock = $0.action { true } else { false } })
      if case .getClock(var record) = history.events[last].action {
        record.clock &+= 100_000
        history.events[last].action = .getClock(record)
      }
      history.header.host.kernel = kernel
      let verdict = rule.verdict(on: [Timeline(history)])
      #expect(verdict.outcome.isBroken)
      #expect((verdict.known?.rule == rule.id) == isKnown, "\(kernel)")
    }
  }
}

@Suite struct KnownDeviationTests {
  @Test(arguments: [
    ("6.12.117-amd64", 6, 12), ("5.10.223", 5, 10), ("6.1-rc3", 6, 1), ("7.0", 7, 0),
    ("6.18.44+", 6, 18), ("4.19-generic.2", 4, 19), ("10.20.30", 10, 20),
  ])
  func aReleaseHasTwoNumbers(release: String, major: Int, minor: Int) {
    #expect(KernelVersion(release: release) == KernelVersion(major, minor))
  }

  @Test(arguments: ["", "6", "six.one", "6.", ".5", "6.x", "v6.1", "99999999999999999999.1"])
  func anythingElseIsNoRelease(release: String) {
    #expect(KernelVersion(release: release) == nil)
  }

  @Test func releasesAreOrderedByNumber() {
    let ordered = ["4.19", "5.2", "5.10", "6.1", "6.9", "6.12", "10.0"].compactMap(
      KernelVersion.init(release:))
    #expect(ordered.count == 7)
    #expect(ordered.shuffled().sorted() == ordered)
    #expect(KernelVersion(6, 3) == KernelVersion(release: "6.3.0"))
  }

  @Test(arguments: [
    ("RATE-RAW", "6.2.16", true), ("RATE-RAW", "6.3.0", false), ("RATE-RAW", "5.10", true),
    ("MULSHIFT-EXACT", "6.2", false),
    ("VERSION-EVEN", "5.10", false), ("RATE-RAW", "unknown", false),
  ])
  func aDeviationIsKnownUntilItWasMended(rule: String, kernel: String, isKnown: Bool) {
    #expect((KnownDeviation.of(rule: rule, kernel: kernel) != nil) == isKnown)
  }

  static func broken(fits: Bool?) -> Outcome {
    var violation = Violation(expected: "a", seen: "b", events: [1])
    violation.fitsDeviation = fits
    return .broken(violations: [violation])
  }

  @Test func aDeviationExcusesNoLargerErrorThanItMakes() {
    for (fits, isKnown) in [(true, true), (false, false), (nil, false)] as [(Bool?, Bool)] {
      let known = KnownDeviation.of(rule: "RATE-RAW", kernel: "6.1", Self.broken(fits: fits))
      #expect((known != nil) == isKnown)
    }
    let rule = "SYSTIME-CROSSPAGE-SERVED"
    #expect(KnownDeviation.of(rule: rule, kernel: "6.1", Self.broken(fits: nil)) != nil)
  }

  @Test func anOldKernelDoesNotOweALaterRule() {
    let rule = "TSCADJ-GUESTWRITE-CONTINUES"
    for (kernel, isOwed) in [("5.12.0", false), ("5.15", true), ("6.1-amd64", true), ("?", true)] {
      #expect((Owed.later(rule: rule, kernel: kernel) == nil) == isOwed, "\(kernel)")
    }
    #expect(Owed.later(rule: rule, kernel: nil) == nil)
  }

  @Test func whatNoKernelOwesIsNoBrokenVerdict() throws {
    var history = Script.history(of: .tscAdjust)
    history.header.host.kernel = "5.12.19"
    let at = try #require(
      history.events.lastIndex { if case .read = $0.action { true } else { false } })
    if case .read(let address, let ring, var reading, let settled) = history.events[at].action {
      reading.page.systemTime &+= 1 << 50
      history.events[at].action = .read(
        address: address, ring: ring, reading: reading, settled: settled)
    }
    let rule = try #require(Rule.named("TSCADJ-GUESTWRITE-CONTINUES"))
    let verdict = rule.verdict(on: [Timeline(history)])
    if verdict.outcome.isBroken { #expect(verdict.notOwed?.since == "5.15") }
  }

  @Test func theTableOfWhatIsOwedNamesRulesOnce() {
    #expect(Owed.table.allSatisfy { Rule.named($0.rule) != nil })
    #expect(Set(Owed.table.map(\.rule)).count == Owed.table.count)
  }

  @Test func withoutAKernelNothingIsKnown() {
    #expect(KnownDeviation.of(rule: "RATE-RAW", kernel: nil) == nil)
  }

  @Test func theTableNamesRulesCausesAndSources() {
    for entry in KnownDeviation.table {
      #expect(Rule.named(entry.rule) != nil, "\(entry.rule)")
      #expect(!entry.cause.isEmpty && !entry.source.isEmpty)
      if let since = entry.since, let until = entry.until { #expect(since < until) }
    }
  }
}
