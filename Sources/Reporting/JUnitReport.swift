internal import ABIChecker

/// A report for CI servers: JUnit's XML, as Jenkins reads it. A topic is a suite.
///
/// What is broken fails. What is known, not tested or inconclusive is skipped: noise on the host proves no fault of
/// its clock. A run that tested nothing, or did not come to its end, is an error.
public struct JUnitReport: Sendable {
  public var report: Report

  private static let shown = 3

  public init(_ report: Report) { self.report = report }

  public var text: String {
    let digest = Digest(report)
    let errors = errors(digest)
    let suites = digest.topics.map(suite) + (errors.isEmpty ? [] : [errorSuite(errors)])
    let seconds = report.nanoseconds.map { " time=\"\(Self.seconds($0))\"" } ?? ""
    return """
      <?xml version="1.0" encoding="UTF-8"?>
      <testsuites name="kvmclock" tests="\(report.verdicts.count + errors.count)" \
      failures="\(report.verdicts.count(where: fails))" errors="\(errors.count)"\(seconds)>
      \(suites.joined(separator: "\n"))
      </testsuites>

      """
  }

  private func suite(_ topic: Digest.TopicCount) -> String {
    let failures = topic.verdicts.count(where: fails)
    let passed = topic.verdicts.count { Status($0) == .holds || Status($0) == .observed }
    let skipped = topic.verdicts.count - failures - passed
    let cases = topic.verdicts.map(testCase).joined(separator: "\n")
    return opening(
      topic.title, tests: topic.verdicts.count, failures: failures, errors: 0, skipped: skipped)
      + "\n\(properties)\n\(cases)\n  </testsuite>"
  }

  private func opening(
    _ name: String, tests: Int, failures: Int, errors: Int, skipped: Int
  ) -> String {
    var attributes = [
      ("name", name), ("tests", "\(tests)"), ("failures", "\(failures)"), ("errors", "\(errors)"),
      ("skipped", "\(skipped)"),
    ]
    if let date = report.date { attributes.append(("timestamp", date)) }
    if let hostname = report.hostname { attributes.append(("hostname", hostname)) }
    return "  <testsuite\(Markup.attributes(attributes))>"
  }

  private var properties: String {
    let all = [("kvmclock", report.version)] + report.facts
    let lines = all.map {
      "      <property\(Markup.attributes([("name", $0.0), ("value", $0.1)]))/>"
    }
    return "    <properties>\n\(lines.joined(separator: "\n"))\n    </properties>"
  }

  private func fails(_ verdict: Verdict) -> Bool {
    verdict.outcome.isBroken && (verdict.known == nil || report.strict)
  }

  private func testCase(_ verdict: Verdict) -> String {
    let attributes = Markup.attributes([("classname", "kvmclock"), ("name", verdict.rule)])
    let status = Status(verdict)
    let said: String
    switch status {
    case .holds, .observed: said = Markup.element("system-out", text: verdict.outcome.summary)
    case .broken: said = failure(verdict)
    case .known where report.strict: said = failure(verdict)
    case .known:
      let why = verdict.known.map { "\($0.range): \($0.cause) (\($0.source))" } ?? ""
      said = Markup.element("skipped", [("type", status.rawValue), ("message", why)])
    case .notTested, .inconclusive:
      said = Markup.element(
        "skipped", [("type", status.rawValue), ("message", verdict.outcome.summary)])
    }
    return "    <testcase\(attributes)>\(said)</testcase>"
  }

  private func failure(_ verdict: Verdict) -> String {
    guard case .broken(let violations) = verdict.outcome else { return "" }
    var lines: [String] = []
    if let rule = Rule.named(verdict.rule) {
      lines += ["rule: \(rule.statement)", "source: \(rule.source)", "tested: \(rule.method)"]
    }
    for violation in violations.prefix(Self.shown) {
      lines += ["expected: \(violation.expected)", "seen: \(violation.seen)"]
      lines.append("where: \(report.place(of: violation, in: verdict))")
    }
    if violations.count > Self.shown {
      lines.append("and \(violations.count - Self.shown) more violations")
    }
    if let command = report.repeatCommand(verdict) { lines.append("repeat: \(command)") }
    let text = lines.map { Plain.oneLine($0) }.joined(separator: "\n")
    let message = violations.first.map { "seen: \($0.seen)" } ?? ""
    return "<failure\(Markup.attributes([("type", "broken"), ("message", message)]))>"
      + "\(Markup.escape(text))</failure>"
  }

  private func errors(_ digest: Digest) -> [(name: String, message: String)] {
    var errors: [(name: String, message: String)] = []
    if let interruption = digest.interruption { errors.append(("complete", interruption)) }
    if report.isEmpty || report.noGuestRuns != nil {
      errors.append(("tested", "\(digest.headline): \(digest.sentence)"))
    }
    return errors
  }

  private func errorSuite(_ errors: [(name: String, message: String)]) -> String {
    let cases = errors.map { error in
      "    <testcase\(Markup.attributes([("classname", "kvmclock"), ("name", error.name)]))>"
        + Markup.element("error", [("type", "run"), ("message", error.message)]) + "</testcase>"
    }
    return opening(
      "The run itself", tests: errors.count, failures: 0, errors: errors.count, skipped: 0)
      + "\n\(cases.joined(separator: "\n"))\n  </testsuite>"
  }

  /// "2.345".
  private static func seconds(_ nanoseconds: UInt64) -> String {
    let thousandths = "\(nanoseconds / 1_000_000 % 1000)"
    return "\(nanoseconds / 1_000_000_000)."
      + String(repeating: "0", count: 3 - thousandths.count) + thousandths
  }
}
