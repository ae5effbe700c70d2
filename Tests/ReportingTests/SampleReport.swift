import ABIChecker

@testable import Reporting

extension Samples {
  static let violation = Violation(
    expected: "version 2", seen: "version 3, which is odd", events: [4, 5])

  static let verdicts = [
    Verdict(
      rule: "MSR-INDEX-LIST", outcome: .holds(evidence: "4 MSRs in the list"),
      scenario: "discovery"),
    Verdict(
      rule: "VERSION-EVEN",
      outcome: .broken(violations: [Violation](repeating: violation, count: 5)),
      scenario: "version"),
    Verdict(
      rule: "RATE-RAW",
      outcome: .broken(
        violations: [Violation(expected: "0 ns", seen: "9 ns # too fast", events: [2])]),
      known: KnownDeviation.of(rule: "RATE-RAW", kernel: host.kernel), scenario: "rate"),
    Verdict(
      rule: "CPUID-FEATURES", outcome: .notTested(reason: "no leaf\n# ok 5 \\ 0x40000000"),
      scenario: "discovery"),
    Verdict(
      rule: "PAGE-SIZE-32", outcome: .inconclusive(reason: "the scenario ended early: \u{1b}[2J"),
      scenario: "registration"),
  ]

  static var report: Report {
    var report = Report(version: "0.1.0", host: host, seed: 42, verdicts: verdicts)
    report.files = ["version": ["out/version.1.kvmclock.jsonl"]]
    report.retries = 2
    report.nanoseconds = 1_324_999_999
    return report
  }
}
