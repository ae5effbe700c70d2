internal import ABIChecker

/// A report for CI servers: JUnit's XML, as Jenkins reads it. A topic is a suite.
///
/// What is broken fails. What is known, not tested or inconclusive is skipped: noise on the host proves no fault of
/// its clock. A run that tested nothing, or did not come to its end, is an error.
public struct JUnitReport: Sendable {
  public var report: Report

  public init(_ report: Report) { self.report = report }

  public var text: String { markup.text }

  private var markup: XML {
    let digest = Digest(report)
    let errors = errors(digest)
    let suites = digest.topics.map(suite) + (errors.isEmpty ? [] : [errorSuite(errors)])
    let seconds = report.nanoseconds.map { " time=\"\(Self.seconds($0))\"" as XML }
    return """
      <?xml version="1.0" encoding="UTF-8"?>
      <testsuites name="kvmclock" tests="\(report.verdicts.count + errors.count)" \
      failures="\(report.verdicts.count(where: fails))" errors="\(errors.count)"\(seconds)>
      \(suites.joined(separator: "\n"))
      </testsuites>

      """
  }

  private func suite(_ topic: Digest.TopicCount) -> XML {
    let failures = topic.verdicts.count(where: fails)
    let passed = topic.verdicts.count { $0.status == .holds || $0.status == .observed }
    let skipped = topic.verdicts.count - failures - passed
    let cases = topic.verdicts.map(testCase).joined(separator: "\n")
    return opening(
      topic.title, tests: topic.verdicts.count, failures: failures, errors: 0, skipped: skipped)
      + "\n\(properties)\n\(cases)\n  </testsuite>"
  }

  private func opening(
    _ name: String, tests: Int, failures: Int, errors: Int, skipped: Int
  ) -> XML {
    var attributes = [
      ("name", name), ("tests", "\(tests)"), ("failures", "\(failures)"), ("errors", "\(errors)"),
      ("skipped", "\(skipped)"),
    ]
    if let date = report.date { attributes.append(("timestamp", date)) }
    if let hostname = report.hostname { attributes.append(("hostname", hostname)) }
    return "  <testsuite\(XML.attributes(attributes))>"
  }

  private var properties: XML {
    let all = [("kvmclock", report.version)] + report.facts
    let lines = all.map { name, value -> XML in
      "      <property\(XML.attributes([("name", name), ("value", value)]))/>"
    }
    return "    <properties>\n\(lines.joined(separator: "\n"))\n    </properties>"
  }

  private func fails(_ verdict: Verdict) -> Bool {
    report.failing.contains(verdict.status)
  }

  private func testCase(_ verdict: Verdict) -> XML {
    // The scenario that decided serves other rules too: their times overlap.
    let runs = report.timings.filter { $0.scenario == verdict.scenario }.map(\.nanoseconds)
    let time = runs.isEmpty ? [] : [("time", Self.seconds(runs.reduce(0, &+)))]
    let attributes = XML.attributes([("classname", "kvmclock"), ("name", verdict.rule)] + time)
    let status = verdict.status
    let said: XML
    switch status {
    case .holds, .observed: said = XML.element("system-out", text: verdict.outcome.summary)
    case .broken: said = failure(verdict)
    case .known, .differs, .notOwed:
      if fails(verdict) {
        said = failure(verdict)
        break
      }
      let why = verdict.excuse ?? ""
      said = XML.element("skipped", [("type", status.rawValue), ("message", why)])
    case .notTested, .inconclusive:
      said = XML.element(
        "skipped", [("type", status.rawValue), ("message", verdict.outcome.summary)])
    }
    return "    <testcase\(attributes)>\(said)</testcase>"
  }

  private func failure(_ verdict: Verdict) -> XML {
    guard case .broken(let violations) = verdict.outcome else { return "" }
    let lines = report.proof(verdict).map { name, text -> XML in
      name.isEmpty ? "\(text)" : "\(name): \(text)"
    }
    let message = violations.first.map { "seen: \($0.seen)" } ?? ""
    return "<failure\(XML.attributes([("type", "broken"), ("message", message)]))>"
      + "\(lines.joined(separator: "\n"))</failure>"
  }

  private func errors(_ digest: Digest) -> [(name: String, message: String)] {
    var errors: [(name: String, message: String)] = []
    if let interruption = digest.interruption { errors.append(("complete", interruption)) }
    if report.isEmpty || report.noGuestRuns != nil {
      errors.append(("tested", "\(digest.headline): \(digest.sentence)"))
    }
    return errors
  }

  private func errorSuite(_ errors: [(name: String, message: String)]) -> XML {
    let cases = errors.map { error -> XML in
      "    <testcase\(XML.attributes([("classname", "kvmclock"), ("name", error.name)]))>"
        + XML.element("error", [("type", "run"), ("message", error.message)]) + "</testcase>"
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
