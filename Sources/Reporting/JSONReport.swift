internal import ABIChecker

/// A report for programs: one JSON object, see `ReportDocument`.
public struct JSONReport: Sendable {
  public var report: Report

  public init(_ report: Report) { self.report = report }

  public var text: String { JSONText.pretty(ReportDocument(report)) }
}

extension ReportDocument {
  public init(_ report: Report) {
    self.init(
      format: Self.formatName, version: Self.currentVersion, kvmclock: report.version,
      hostname: report.hostname, date: report.date, host: report.host, seed: report.seed,
      strict: report.strict, planned: report.planned, exitStatus: report.exitCode,
      counts: Counts(report), retries: report.retries, nanoseconds: report.nanoseconds,
      interruption: report.interruption, noGuestRuns: report.noGuestRuns, notes: report.notes,
      verdicts: report.verdicts.map { Entry($0, in: report) }, timings: report.timings,
      policies: report.policies, faults: report.faults)
  }
}

extension ReportDocument.Counts {
  init(_ report: Report) {
    self.init(
      holds: report.count(.holds), observed: report.count(.observed),
      broken: report.count(.broken), known: report.count(.known),
      differs: report.count(.differs), notOwed: report.count(.notOwed),
      notTested: report.count(.notTested), inconclusive: report.count(.inconclusive))
  }
}

extension ReportDocument.Entry {
  init(_ verdict: Verdict, in report: Report) {
    let rule = Rule.named(verdict.rule)
    self.init(
      rule: verdict.rule, topic: Rule.topic(of: verdict.rule), statement: rule?.statement,
      source: rule?.source, excuse: verdict.excuse, verdict: verdict.status,
      summary: verdict.outcome.summary, scenario: verdict.scenario)
    if case .holds(_, let closest) = verdict.outcome { self.closest = closest }
    if case .broken(let violations) = verdict.outcome {
      self.violations = violations.map { violation in
        ReportDocument.Proof(
          expected: violation.expected, seen: violation.seen, events: violation.events,
          history: violation.history ?? verdict.scenario,
          files: report.files(of: violation, in: verdict), measure: violation.measure)
      }
      again = report.repeatCommand(verdict)
    }
    known = verdict.known.map {
      ReportDocument.Deviation(
        range: $0.range, cause: $0.cause, source: $0.source, shows: verdict.outcome.isBroken)
    }
  }
}

extension Rule {
  /// The title of the topic that a rule belongs to.
  static func topic(of id: String) -> String? {
    topics.first { topic in topic.rules.contains { $0.id == id } }?.title
  }
}
