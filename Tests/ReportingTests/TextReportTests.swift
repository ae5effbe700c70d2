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
        holds         MSR-INDEX-LIST  4 MSRs in the list
        BROKEN        VERSION-EVEN    5 violations
            rule:     \(even.statement)
            source:   \(even.source)
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
            repeat:   kvmclock run VERSION-EVEN --seed 42
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
    #expect(lines.dropFirst().allSatisfy { $0.count <= 100 })
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

  @Test func timingsAreATable() {
    var report = Samples.report
    report.timings = [
      ScenarioTiming(scenario: "discovery", attempt: 1, nanoseconds: 4_999_999),
      ScenarioTiming(scenario: "rate", attempt: 2, nanoseconds: 3_005_000_000),
    ]
    let text = TextReport(report, showsTimings: true).text
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

@Suite struct ExitCodeTests {
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
