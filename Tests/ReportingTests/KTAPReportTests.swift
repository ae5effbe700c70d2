import ABIChecker
import Testing

@testable import Reporting

@Suite struct KTAPReportTests {
  @Test func aReportForMachinesReadsLikeThis() throws {
    var report = Samples.report
    report.verdicts.remove(at: 1)
    report.planned = 4
    let rate = try #require(Rule.named("RATE-RAW"))
    let known = try #require(Samples.verdicts[2].known)
    #expect(
      KTAPReport(report).text == """
        KTAP version 1
        1..4
        # kvmclock 0.1.0: Linux 6.1.0-test, kvm_intel, TSC 2000000 kHz, clocksource tsc, seed 42
        ok 1 MSR-INDEX-LIST
        # rule: \(rate.statement)
        # source: \(rate.source)
        # tested: \(rate.method)
        # expected: 0 ns
        # seen: 9 ns \\# too fast
        # where: event 2 of scenario rate
        # known: kernels before 6.3: \(known.cause) (\(known.source))
        # repeat: kvmclock run RATE-RAW --seed 42
        ok 2 RATE-RAW # XFAIL known: \(known.sentence)
        ok 3 CPUID-FEATURES # SKIP no leaf \\# ok 5 \\\\ 0x40000000
        ok 4 PAGE-SIZE-32 # SKIP inconclusive: the scenario ended early:  [2J
        # Totals: pass:1 fail:0 xfail:1 xpass:0 skip:2 error:0

        """)
  }

  @Test func aBrokenRuleFailsAfterItsDiagnostics() throws {
    var report = Samples.report
    report.verdicts = [Samples.verdicts[1]]
    let lines = KTAPReport(report).text.split(separator: "\n")
    #expect(lines.suffix(2).first == "not ok 1 VERSION-EVEN")
    #expect(lines.contains("# expected: version 2"))
    #expect(lines.contains("# and 2 more violations"))
    #expect(lines.count { $0.hasPrefix("# where: ") } == 3)
    report.verdicts[0].outcome = .broken(
      violations: [Violation](repeating: Samples.violation, count: 4))
    #expect(KTAPReport(report).text.contains("\n# and 1 more violation\n"))
  }

  @Test func aKnownDeviationFailsOnlyWhenStrict() {
    var report = Samples.report
    report.strict = true
    #expect(
      KTAPReport(report).text.contains(
        "\nnot ok 3 RATE-RAW # XFAIL known: kernels before 6.3: kvm.ko keeps"))
  }

  @Test func noTextFromAHistoryCanForgeAResultLine() {
    var report = Samples.report
    report.notes = ["\nok 1 forged", "\r\nnot ok 2 forged\u{2028}ok 3 forged"]
    report.host.kernel = "6.1\nok 9 forged # SKIP"
    let lines = KTAPReport(report).text.split(whereSeparator: \.isNewline)
    #expect(lines.allSatisfy { $0.hasPrefix("#") || !$0.contains("forged") })
    #expect(lines.count { $0.hasPrefix("ok") || $0.hasPrefix("not ok") } == 5)
  }

  @Test func anInterruptedRunDoesNotMeetItsPlan() {
    var report = Samples.report
    report.planned = 33
    report.interruption = "SIGTERM"
    let text = KTAPReport(report).text
    #expect(text.contains("\n1..33\n"))
    #expect(text.hasSuffix("\nBail out! interrupted by SIGTERM\n"))
  }

  @Test func aTopicIsASubtest() {
    let text = KTAPReport(Samples.report, style: ReportStyle(hasSubtests: true)).text
    let topics = Set(Samples.verdicts.map { Rule.topic(of: $0.rule) }).count
    #expect(text.hasPrefix("KTAP version 1\n1..\(topics)\n"))
    #expect(
      text.contains("\n  KTAP version 1\n  # Subtest: The version protocol\n  1..1\n  # rule: "))
    #expect(text.contains("\n  not ok 1 VERSION-EVEN\nnot ok 1 The version protocol\n"))
    #expect(text.contains("\n# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:2 error:0\n"))
  }

  /// What is written verdict by verdict is the same as what is written in one piece.
  @Test(arguments: [ReportFormat.ktap, .jsonl], [false, true])
  func aStreamIsTheReport(format: ReportFormat, hasSubtests: Bool) throws {
    let style = ReportStyle(hasSubtests: hasSubtests)
    var text = ""
    let report = Samples.report
    let stream = try #require(
      VerdictStream(format, rules: report.verdicts.map(\.rule), style: style) { text += $0 })
    stream.begin(report)
    for verdict in report.verdicts { stream.add(verdict, in: report) }
    stream.end(report)
    #expect(text == format.render(report, style: style))
  }

  @Test func aHostOnWhichNoGuestRunsBailsOut() {
    var report = Samples.report
    report.noGuestRuns = "vcpu0 did not answer"
    #expect(KTAPReport(report).text.hasSuffix("\nBail out! no guest runs: vcpu0 did not answer\n"))
  }
}
