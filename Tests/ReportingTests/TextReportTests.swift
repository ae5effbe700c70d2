import ABIChecker
import Testing

@testable import Reporting

@Suite struct TextReportTests {
  @Test func aReportForPeopleReadsLikeThis() throws {
    let even = try #require(Rule.named("VERSION-EVEN"))
    let known = try #require(Samples.verdicts[2].known)
    #expect(
      TextReport(Samples.report).text == """
        kvmclock 0.1.0: Linux 6.1.0-test, kvm_intel, TSC 2000000 kHz, clocksource tsc, seed 42
        NOT SOUND: 1 rule of 4 tested is broken; 1 known kernel bug (of \(Rule.ofKVM.count) in all).
        holds         MSR-INDEX-LIST  4 MSRs in the list
        BROKEN        VERSION-EVEN    5 violations
            rule:     \(even.statement)
            source:   \(even.source)
            tested:   \(even.method)
            expected: version 2
            seen:     version 3, which is odd
            where:    events 4, 5 of scenario version, out/version.1.kvmclock.jsonl
            expected: version 2
            seen:     version 3, which is odd
            where:    events 4, 5 of scenario version, out/version.1.kvmclock.jsonl
            expected: version 2
            seen:     version 3, which is odd
            where:    events 4, 5 of scenario version, out/version.1.kvmclock.jsonl
                      and 2 more violations
            repeat:   kvmclock run VERSION-EVEN --scenario version --seed 42
        known         RATE-RAW        kernels before 6.3: \(known.cause) (\(known.source)); seen: 9 ns # too fast
        not tested    CPUID-FEATURES  no leaf # ok 5 \\ 0x40000000
        inconclusive  PAGE-SIZE-32    the scenario ended early:  [2J
        5 rules: 1 hold, 0 observed, 1 broken, 1 known, 1 not tested, 1 inconclusive; 2 retries; 1.32 s

        """)
  }

  @Test func withStrictAKnownDeviationIsShownInFull() throws {
    let rate = try #require(Rule.named("RATE-RAW"))
    let known = try #require(Samples.verdicts[2].known)
    var report = Samples.report
    report.strict = true
    #expect(
      TextReport(report).text.contains(
        """
        known         RATE-RAW        1 violation
            rule:     \(rate.statement)
            source:   \(rate.source)
            tested:   \(rate.method)
            expected: 0 ns
            seen:     9 ns # too fast
            where:    event 2 of scenario rate
            known:    kernels before 6.3: \(known.cause) (\(known.source))
            repeat:   kvmclock run RATE-RAW --seed 42

        """))
  }

  @Test func anObservationIsNeitherGoodNorBad() {
    var report = Samples.report
    report.verdicts = [
      Verdict(
        rule: "RATE-RAW", outcome: .observed(value: "431 ns in 10 s"), scenario: "rate")
    ]
    #expect(TextReport(report).text.contains("\nobserved      RATE-RAW  431 ns in 10 s\n"))
    #expect(TextReport(report).text.contains("0 hold, 1 observed, 0 broken"))
    #expect(report.exitCode == 0)
    #expect(
      KTAPReport(report).text.contains("\n# observed: 431 ns in 10 s\nok 1 RATE-RAW\n"))
  }

  @Test func aKnownDeviationThatDoesNotShowIsTold() throws {
    var report = Samples.report
    report.verdicts = [
      Verdict(
        rule: "RATE-RAW", outcome: .holds(evidence: "2 rates"), known: Samples.verdicts[2].known,
        scenario: "rate")
    ]
    let note = "RATE-RAW holds, but kernels before 6.3 are known to break it (Linux 3ebcbd2244f5"
    #expect(TextReport(report).text.contains("note: \(note)"))
    #expect(KTAPReport(report).text.contains("# note: \(note)"))
    #expect(report.exitCode == 0)
  }

  @Test func onATerminalNoLineIsWiderThanIt() {
    let text = TextReport(Samples.report, width: 100).text
    let lines = text.split(separator: "\n")
    #expect(lines.allSatisfy { $0.count <= 100 })
    // Every word is still there, in order.
    let words = text.split { $0 == " " || $0 == "\n" }
    let whole = TextReport(Samples.report).text.split { $0 == " " || $0 == "\n" }
    #expect(words == whole)
  }

  @Test func colourPaintsStatusWordsAndNothingElse() throws {
    let plain = TextReport(Samples.report).text
    let painted = TextReport(Samples.report, coloured: true).text
    #expect(painted.contains("\u{1b}[1;31mBROKEN      \u{1b}[0m  VERSION-EVEN"))
    #expect(!plain.contains("\u{1b}"))
    #expect(painted.replacing(try Regex("\u{1b}\\[[0-9;]*m"), with: "") == plain)
  }

  @Test func aRunThatTestedNothingSaysSoLoudlyAndIsNoPass() {
    var report = Samples.report
    for verdicts in [[], [Samples.verdicts[3]]] {
      report.verdicts = verdicts
      #expect(TextReport(report).text.contains("\nNOTHING WAS TESTED: this run says nothing"))
      #expect(report.exitCode == 2)
    }
  }

  @Test func anInterruptedRunSaysWhatWasNotJudged() {
    var report = Samples.report
    report.planned = 33
    report.interruption = "SIGINT"
    #expect(
      TextReport(report).text.contains("\ninterrupted by SIGINT: 28 rules of 33 not judged\n"))
  }

  @Test func aHostOnWhichNoGuestRunsIsBrokenAlthoughNothingWasTested() {
    var report = Samples.report
    report.verdicts = [Samples.verdicts[3]]
    report.noGuestRuns = "vcpu0 did not answer within 5000 ms"
    let text = TextReport(report).text
    #expect(text.contains("\nBROKEN: no guest runs: vcpu0 did not answer within 5000 ms.\n"))
    #expect(!text.contains("NOTHING WAS TESTED"))
    #expect(report.exitCode == 1)
  }

  @Test func timingsAreATable() {
    var report = Samples.report
    report.timings = [
      ScenarioTiming(scenario: "discovery", attempt: 1, nanoseconds: 4_999_999),
      ScenarioTiming(scenario: "rate", attempt: 2, nanoseconds: 3_005_000_000),
    ]
    let text = TextReport(report, style: ReportStyle(showsTimings: true)).text
    #expect(text.contains("time  discovery       5.0 ms\n"))
    #expect(text.contains("time  rate         3005.0 ms  attempt 2\n"))
    #expect(!TextReport(report).text.contains("time  "))
  }

  @Test func whereAScenarioHasSeveralHistoriesAllAreNamed() {
    var report = Samples.report
    report.files["version"] = ["a", "b"]
    #expect(TextReport(report).text.contains("events 4, 5 of scenario version, in one of a, b\n"))
  }

  @Test func severalSeedsGiveNoCommandThatRepeats() {
    var report = Samples.report
    report.seed = nil
    #expect(!TextReport(report).text.contains("repeat:"))
    #expect(!TextReport(report).text.contains("seed"))
  }
}

/// The output of a run of many rules.
@Suite struct TextSummaryTests {
  /// Every rule of the catalogue holds, but for those that are given.
  static func report(_ others: [Verdict] = []) -> Report {
    var report = Samples.report
    report.verdicts = Rule.ofKVM.map { rule in
      others.first { $0.rule == rule.id }
        ?? Verdict(rule: rule.id, outcome: .holds(evidence: "2 things"), scenario: "version")
    }
    report.planned = report.verdicts.count
    return report
  }

  /// What a host without TSC scaling and offsets shows, run without --change-host.
  static var usual: Report {
    let hostChange = "a host that may be changed: needs --change-host"
    return report(
      Rule.ofKVM.filter(\.needsHostChange).map {
        Verdict(rule: $0.id, outcome: .notTested(reason: hostChange), scenario: "")
      }
        + ["TSCOFFSET-CONTINUES", "TSC-HOSTWRITE-CONTINUES", "TSCKHZ-VM-SCOPE", "PERIODIC-SYNC"].map
      {
        Verdict(rule: $0, outcome: .notTested(reason: "\($0): no"), scenario: "")
      }
        + ["SYSTIME-CROSSPAGE-SERVED", "RESNAP-NO-JUMP", "TSCKHZ-UPSCALE"].map {
          Verdict(
            rule: $0, outcome: .broken(violations: [Samples.violation]),
            known: KnownDeviation.of(rule: $0, kernel: "6.18.0"), scenario: "")
        })
  }

  @Test(arguments: [80, 120])
  func aGoodRunFitsOneScreen(width: Int) {
    let text = TextReport(Self.usual, coloured: false, width: width).text
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    // The last one is empty.
    #expect(lines.count <= 13)
    #expect(lines.allSatisfy { $0.count <= width }, "\(text)")
    #expect(text.contains("\nSOUND: "))
    #expect(text.contains(" tested is broken; 3 known kernel bugs."))
  }

  @Test func whatIsNotTestedIsGroupedByItsReason() {
    let text = TextReport(Self.usual).text
    let rules = Rule.ofKVM.filter(\.needsHostChange)
    #expect(
      text.contains(
        "\nnot tested    \(rules[0].id) and \(rules.count - 1) more: a host that may be changed"))
    #expect(text.contains("\nknown         3 rules: "))
    #expect(!text.contains("2 things"))
  }

  @Test func verboseShowsEachRule() {
    let text = TextReport(Self.usual, style: ReportStyle(isVerbose: true)).text
    for rule in Rule.ofKVM { #expect(text.contains("  \(rule.id) ")) }
    #expect(text.contains("2 things"))
  }

  @Test func aBrokenRuleIsShownInFull() throws {
    let text = TextReport(Self.report([Samples.verdicts[1]])).text
    #expect(text.contains("\nNOT SOUND: 1 rule of \(Rule.ofKVM.count) tested is broken.\n"))
    #expect(text.contains("\nBROKEN        VERSION-EVEN\n    rule:     "))
    #expect(text.split(separator: "\n").prefix(24).contains { $0.hasPrefix("    repeat: ") })
    #expect(
      text.contains("\n    repeat:   kvmclock run VERSION-EVEN --scenario version --seed 42\n"))
  }

  @Test func whatIsUndecidedIsSaidWithItsReason() {
    let text = TextReport(Self.report([Samples.verdicts[4]])).text
    #expect(text.contains("\nUNDECIDED: no rule is broken, but 1 rule of "))
    #expect(text.contains("\ninconclusive  PAGE-SIZE-32: the scenario ended early: "))
  }

  @Test func anAnswerNamesItsScope() {
    var report = Self.report()
    #expect(TextReport(report).text.contains("\nSOUND: no rule of \(Rule.ofKVM.count) tested is"))
    report.verdicts = [Samples.verdicts[0]]
    report.planned = 1
    #expect(
      TextReport(report).text.contains(
        "\nSOUND: no rule of 1 tested is broken (of \(Rule.ofKVM.count) in all).\n"))
  }
}

@Suite struct ExitCodeTests {
  /// What only today's implementation promises, and what only later kernels owe, makes no host unsound.
  @Test func aDifferenceAndWhatIsNotOwedAreCountedApart() {
    let outcome = Outcome.broken(violations: [Samples.violation])
    let differs = Verdict(
      rule: "WALL-UNBACKED-NOFAULT", outcome: outcome, differsOnly: true, scenario: "")
    let owed = Owed.table.first { $0.rule == "HOTPLUG-NO-RESNAP" }
    let notOwed = Verdict(rule: "HOTPLUG-NO-RESNAP", outcome: outcome, notOwed: owed, scenario: "")
    var report = Samples.report
    report.verdicts = [Self.holds, differs, notOwed]
    #expect(report.exitCode == 0)
    let text = TextReport(report).text
    #expect(text.contains("differs       WALL-UNBACKED-NOFAULT"))
    #expect(text.contains("differs from Linux as of"))
    #expect(text.contains("not owed      HOTPLUG-NO-RESNAP"))
    #expect(text.contains("not owed before Linux 6.7"))
    #expect(text.contains("1 difference from Linux, 1 rule not owed by this kernel"))
    #expect(text.contains("0 known, 1 differ, 1 not owed, "))
    report.strict = true
    #expect(report.exitCode == 1)
    report.verdicts = [Self.holds, notOwed]
    #expect(report.exitCode == 0)
  }

  static let holds = Samples.verdicts[0]
  static let broken = Samples.verdicts[1]
  static let known = Samples.verdicts[2]
  static let notTested = Samples.verdicts[3]
  static let inconclusive = Samples.verdicts[4]

  @Test(arguments: [
    ([holds], 0, 0), ([holds, notTested], 0, 0), ([holds, known], 0, 1), ([known], 0, 1),
    ([holds, broken], 1, 1), ([holds, inconclusive], 2, 2), ([known, inconclusive], 2, 1),
    ([broken, inconclusive], 1, 1), ([notTested], 2, 2), ([], 2, 2),
  ])
  func theExitCodeTellsTheCasesApart(verdicts: [Verdict], code: Int32, strict: Int32) {
    var report = Samples.report
    report.verdicts = verdicts
    #expect(report.exitCode == code)
    report.strict = true
    #expect(report.exitCode == strict)
  }
}
